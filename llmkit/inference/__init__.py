"""Inference: loading saved models and predicting with them."""
