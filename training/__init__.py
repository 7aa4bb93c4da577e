"""Fits heads to stored embeddings on one machine: no Spark session, no Java."""
