"""plan_page."""
