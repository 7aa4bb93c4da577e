"""Applies heads to stored embeddings: reads no image, imports no torch.

Offers `score_udf`, a pandas UDF for one head, and `scores`, which scores a catalog and stores the
result. Never reads labels, never decides.
"""
