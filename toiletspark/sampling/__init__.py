"""Samples: which images are drawn, with which probability, and estimates for the whole catalog.

A draw follows from seed and ids: the same tomorrow, with another partitioning, on another cluster.
`allocation`, `estimates`, `evaluation_sample`, `inclusion_probabilities` and `near_duplicates`
never import Spark.
"""
