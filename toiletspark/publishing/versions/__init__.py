"""Numbered versions: log (with the live version), rollback, retention, and a metastore table.

Nothing that a reader may hold open is overwritten. Only metastore needs Spark, for its statements.
"""
