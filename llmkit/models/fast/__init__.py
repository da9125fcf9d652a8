"""Exact fast paths: padding-free batches, dropout, embedding gradients and the sparse masked-LM head."""
