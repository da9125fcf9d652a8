"""Tokenizer training, and statistics of a tokenizer on a corpus."""
