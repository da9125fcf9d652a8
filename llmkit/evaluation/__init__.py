"""Evaluation of models: scores with intervals, next to baselines."""
