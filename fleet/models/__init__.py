"""Directories of weights: what one is, where it comes from, and how it gets to hosts as a whole or not at all."""
