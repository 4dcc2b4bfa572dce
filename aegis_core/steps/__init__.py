"""One module per step of the ritual; each has run(plan, ctx)."""
