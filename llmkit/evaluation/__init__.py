"""Judgement: scores with intervals, beside baselines."""
