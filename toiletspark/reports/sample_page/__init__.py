"""sample_page."""
