"""Encoder-decoders: inputs, generation, and models joined from two encoders."""
