"""Samples: which images are drawn, with which probability, and estimates for the whole catalog.

Offers strata, allocation and draws; a bootstrap with 95 % intervals; near-duplicates. A draw
follows from hash(seed, id): the same tomorrow, with another partitioning, on another cluster.
`allocation`, `estimates`, `evaluation_sample`, `inclusion_probabilities` and `near_duplicates`
never import Spark.
"""
