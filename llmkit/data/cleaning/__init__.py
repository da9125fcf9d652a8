"""Cleaning a corpus: plain functions of one document, one table of them, and duplicates found in one place."""
