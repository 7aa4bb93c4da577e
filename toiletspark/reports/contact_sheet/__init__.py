"""contact_sheet."""
