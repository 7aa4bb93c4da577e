"""Inputs of training: labels with embeddings, the labelled files, their views, golden images."""
