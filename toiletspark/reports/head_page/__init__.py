"""The page of a head: its quality, how certain that is, and its mistakes."""
