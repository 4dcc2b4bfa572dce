"""The window of AEGIS. It imports no model library: what it draws arrives as events from the engine's process."""
