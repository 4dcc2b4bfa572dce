"""Datasets: reading, formatting, packing, splitting."""
