"""Metrics of the evaluate library."""
