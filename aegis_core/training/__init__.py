"""Training of adapter and rotation under the alpha schedule."""
