"""head_page."""
