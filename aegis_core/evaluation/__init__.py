"""Held-out quality, measured the same way at every stage."""
