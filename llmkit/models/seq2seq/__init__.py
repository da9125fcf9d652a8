"""Encoder-decoder models: inputs, generation, and construction from two encoders."""
