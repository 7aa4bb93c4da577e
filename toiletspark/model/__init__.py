"""Backbone and head: pixels to embeddings to scores, and the files that hold both. No Spark, no URLs.

torch is imported by `weights` and by its runtime alone, OpenVINO by its runtime and `quantisation`.
"""
