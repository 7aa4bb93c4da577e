"""The page of a plan: what would leave the feed and what would return to it."""
