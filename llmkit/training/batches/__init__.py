"""Batches: the indexed data set, micro-batches, streaming and the fast path."""
