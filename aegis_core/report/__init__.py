"""The run log: every claim with the figure that proves it."""
