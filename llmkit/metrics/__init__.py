"""Plain functions from references and answers to scores; each score carries an interval and a signature."""

from __future__ import annotations

from llmkit.metrics.score import Score

__all__ = ["Score"]
