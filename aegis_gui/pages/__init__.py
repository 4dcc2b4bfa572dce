"""One page per step of the ritual, and the list of runs."""
