"""Hostile input: seeds, how they are altered, and what must hold. `tests/test_fuzz.py` runs a little of it."""
