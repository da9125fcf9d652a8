"""What is wrong with single rows: gathered while reading, then raised as one error that counts them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmkit.errors import MAX_SHOWN_PLACES, DataError


class RowError(NamedTuple):
    """One bad row: `FILE:LINE`, what is wrong there, and what mends it."""

    location: str
    what: str
    fix: str


def raise_errors(faults: Sequence[RowError]) -> None:
    """Raise DataError for the first fault, with the count and the first five places when there are several."""
    if not faults:
        return
    first = faults[0]
    if len(faults) == 1:
        raise DataError(f"{first.location}: {first.what}", first.fix)
    message = f"{first.location}: {first.what} (the first of {len(faults):,} bad rows)"
    places = [f"{fault.location}: {fault.what}" for fault in faults[:MAX_SHOWN_PLACES]]
    raise DataError(message, first.fix, places, len(faults))


def join_names(names: Sequence[str], limit: int = 10) -> str:
    """`a, b, c` for a sentence, cut after `shown` names with the number of the others."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def pluralize(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
