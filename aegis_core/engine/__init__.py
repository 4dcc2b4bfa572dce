"""The engine's own environment: which Python runs the child, and how that environment is made, checked and mended."""
