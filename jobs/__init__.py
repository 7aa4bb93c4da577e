"""Entry points for spark-submit: one verb a file, each a table of contents of its step."""
