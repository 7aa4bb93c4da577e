"""The page of a sample, and its preview in the terminal."""
