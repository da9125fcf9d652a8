"""Metrics of classification: single-label, multi-label, per label, and of probabilities."""
