"""Hostile input: seeds, how they are altered, and what must hold.

`tests/end_to_end/test_fuzz.py` runs a little of it."""
