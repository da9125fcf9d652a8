"""Errors of single rows, collected while reading and raised as one DataError with their number and locations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmkit.errors import MAX_SHOWN_PLACES, DataError


class RowError(NamedTuple):
    """One invalid row: its location `FILE:LINE`, the problem, and how to fix it."""

    location: str
    what: str
    fix: str


def raise_errors(errors: Sequence[RowError]) -> None:
    """Raise DataError for the first row error; several also give their number and the first five locations."""
    if not errors:
        return
    first = errors[0]
    if len(errors) == 1:
        raise DataError(f"{first.location}: {first.what}", first.fix)
    message = f"{first.location}: {first.what} (the first of {len(errors):,} bad rows)"
    locations = [f"{error.location}: {error.what}" for error in errors[:MAX_SHOWN_PLACES]]
    raise DataError(message, first.fix, locations, len(errors))


def join_names(names: Sequence[str], limit: int = 10) -> str:
    """Join names as `a, b, c`; after `limit` names, state only how many more there are."""
    rest = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {rest:,} more" if rest > 0 else "")


def pluralize(number: int, noun: str) -> str:
    """Format a count with its noun: `1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
