"""Formatting of weight and module names in messages."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LISTED_MODULES = 5  # more modules are grouped by layer and parent module


def summarize_modules(keys: Sequence[str]) -> str:
    """List the modules of weights, as in `classifier, bert.pooler.dense`, grouping many by layer and parent module."""
    found = list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
    if len(found) > MAX_LISTED_MODULES:
        found = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in found))
    while len(found) > MAX_LISTED_MODULES and (deepest := max(key.count(".") for key in found)):
        found = list(dict.fromkeys(key.rpartition(".")[0] if key.count(".") == deepest else key for key in found))
    return ", ".join(found)


def phrase_weight_count(number: int) -> str:
    """Format `1 weight is` or `2 weights are`."""
    return f"{number:,} weight{'s are' if number > 1 else ' is'}"


def join_weight_names(keys: list[str]) -> str:
    """Join weight names with commas, the first five only."""
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")
