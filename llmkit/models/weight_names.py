"""Names of weights and modules as messages list them."""

from __future__ import annotations

import re
from collections.abc import Sequence

MAX_LISTED_MODULES = 5  # modules that a sentence lists


def summarize_modules(keys: Sequence[str]) -> str:
    """`classifier, bert.pooler.dense` from weight names; of many the modules that they are in, layers as one."""
    found = list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
    if len(found) > MAX_LISTED_MODULES:
        found = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in found))
    while len(found) > MAX_LISTED_MODULES and (deepest := max(key.count(".") for key in found)):
        found = list(dict.fromkeys(key.rpartition(".")[0] if key.count(".") == deepest else key for key in found))
    return ", ".join(found)


def phrase_weight_count(number: int) -> str:
    return f"{number:,} weight{'s are' if number > 1 else ' is'}"


def join_weight_names(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")
