"""Weights: found, loaded, checked for fit, hashed, saved."""
