"""Backbone and head: pixels to embeddings to scores, and their files. No Spark, no URLs.

torch is imported by `weights` and by its runtime alone, OpenVINO by its runtime and `quantisation`.
"""
