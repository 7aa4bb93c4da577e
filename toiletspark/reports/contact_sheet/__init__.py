"""The contact sheet: HTML files in which people label pictures in a browser."""
