"""From an image's URL to pixels: fetching by allow rules, decoding in a sandbox, thumbnails.

A bad image is a status, never an exception. Only `thumbnails` imports Spark.
"""
