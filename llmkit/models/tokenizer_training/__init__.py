"""Tokenizer training and its statistics."""
