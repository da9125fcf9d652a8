"""Metrics as plain functions of references and predictions; every score has an interval and a signature."""

from __future__ import annotations

from llmkit.metrics.score import Score

__all__ = ["Score"]
