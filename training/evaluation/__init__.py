"""Figures of a head: what it is worth for the whole catalog, from held-out images."""
