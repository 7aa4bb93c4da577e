"""Numbered versions: log (with the live version), rollback, retention, and a metastore table.

Nothing that a reader may hold open is overwritten; the pointer moves last and never back.
Nothing here needs Spark, except to run the statements of metastore.
"""
