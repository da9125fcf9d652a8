"""Names of weights and modules as messages list them."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPELLED = 5  # modules that a sentence lists


def modules(keys: Sequence[str]) -> str:
    """`classifier, bert.pooler.dense` from weight names; of many the modules that they are in, layers as one."""
    found = list(dict.fromkeys(key.rpartition(".")[0] or key for key in keys))
    if len(found) > SPELLED:
        found = list(dict.fromkeys(re.sub(r"\.\d+(?=\.)", ".*", key) for key in found))
    while len(found) > SPELLED and (deepest := max(key.count(".") for key in found)):
        found = list(dict.fromkeys(key.rpartition(".")[0] if key.count(".") == deepest else key for key in found))
    return ", ".join(found)


def weights(number: int) -> str:
    return f"{number:,} weight{'s are' if number > 1 else ' is'}"


def listed(keys: list[str]) -> str:
    return ", ".join(keys[:5]) + (" ..." if len(keys) > 5 else "")
