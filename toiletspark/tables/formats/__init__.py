"""Formats of the user's tables: what is checked or repaired in files before their rows are used."""
