"""Changing a file's graph and weights, and nothing else of it."""
