"""The race against the field: `make bench-peers`; see __main__."""
