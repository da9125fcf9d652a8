"""What is wrong with single rows: gathered while reading, then raised as one error that counts them all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from llmkit.errors import SHOWN, DataError


class Fault(NamedTuple):
    """One bad row: `FILE:LINE`, what is wrong there, and what mends it."""

    where: str
    what: str
    mend: str


def refuse(faults: Sequence[Fault]) -> None:
    """Raise DataError for the first fault, with the count and the first five places when there are several."""
    if not faults:
        return
    first = faults[0]
    if len(faults) == 1:
        raise DataError(f"{first.where}: {first.what}", first.mend)
    message = f"{first.where}: {first.what} (the first of {len(faults):,} bad rows)"
    places = [f"{fault.where}: {fault.what}" for fault in faults[:SHOWN]]
    raise DataError(message, first.mend, places, len(faults))


def listed(names: Sequence[str], shown: int = 10) -> str:
    """`a, b, c` for a sentence, cut after `shown` names with the number of the others."""
    rest = len(names) - shown
    return ", ".join(names[:shown]) + (f" and {rest:,} more" if rest > 0 else "")


def counted(number: int, noun: str) -> str:
    """`1 row`, `2,000 rows`."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
