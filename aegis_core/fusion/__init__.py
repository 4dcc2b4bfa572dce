"""Adapter, gate and rotation folded into plain weights, and the proof of it."""
