"""Scores of embeddings: what the field measures of a similarity."""
