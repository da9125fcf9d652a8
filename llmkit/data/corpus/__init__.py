"""Corpora: documents, hold-out, blocks and masking for language-model pretraining."""
