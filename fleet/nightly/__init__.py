"""Nights: what runs by itself, and what starts it."""
