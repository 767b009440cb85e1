"""Backdoors in the graph itself: a test of the input that gates the output."""
