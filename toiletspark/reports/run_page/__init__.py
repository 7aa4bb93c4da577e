"""run_page."""
