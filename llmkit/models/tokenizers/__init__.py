"""Tokenizers: encoding, caching, word boundaries and maximum lengths."""
