"""The page of a run: what the live version excludes, what is borderline, what has no score."""
