"""The kinds of metric names: the task's own, metrics of the evaluate library, and a user's metric files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

EVALUATE_PREFIX = "evaluate:"  # of the names of the evaluate library's metrics

MetricKind = Literal["own", "evaluate", "file"]


def get_metric_kind(name: str) -> MetricKind:
    """Return the kind of a metric by its name; all but the task's own run foreign code."""
    if name.startswith(EVALUATE_PREFIX):
        return "evaluate"
    return "file" if name.endswith(".py") else "own"


def split_foreign_metrics(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into the task's own metrics and those that run foreign code."""
    own = [name for name in names if get_metric_kind(name) == "own"]
    return own, [name for name in names if name not in own]


def list_metric_files(names: Sequence[str]) -> list[str]:
    """Return the names that are metric files."""
    return [name for name in names if get_metric_kind(name) == "file"]
