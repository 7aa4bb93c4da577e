"""Finds the images that a property portal's feed must not show, on the portal's Spark cluster.

The backbone is frozen, so each distinct image is embedded once; every later decision is made on the
stored embeddings. ARCHITECTURE.md lists the rooms. Importing this package starts nothing.
"""

__version__ = "0.1.0"
