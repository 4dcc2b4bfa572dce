"""The engine of AEGIS: everything the ritual does, without a window."""

__version__ = "0.1.0"
