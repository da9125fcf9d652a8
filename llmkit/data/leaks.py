"""Rows of validation or test whose text also stands in train: they make a score better than it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from llmkit.data.normalize import normalize_rows
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import IndexArray, Rows
from llmkit.errors import MAX_SHOWN_PLACES, DataError, RecipeError, suggest_spelling

OnLeak = Literal["report", "error", "drop", "ignore"]
EQUALITY_RULE = "equal after case and space are normalised"


def find_leaked_rows(train: Rows, other: Rows, words: Sequence[str]) -> IndexArray:
    """The indices of the rows of `other` whose normalised `words` also stand in a row of `train`."""
    known = set(normalize_rows(train, words))
    return np.array([row for row, key in enumerate(normalize_rows(other, words)) if key in known], dtype=np.int64)


def describe_leaks(train: Rows, other: Rows, name: str, words: Sequence[str]) -> str | None:
    """One sentence with count, share and first place of the rows of `other` that also stand in train, or None."""
    leaked = find_leaked_rows(train, other, words)
    if not len(leaked):
        return None
    (place,) = _places(train, other, leaked[:1], words)
    mends = "data.on_leak=drop removes them from train, error refuses, ignore is silent"
    return f"{name}: {_share(leaked, other)}, the first {place}; {mends}"


def check_trained_overlap(train: Rows, other: Rows, words: Sequence[str]) -> tuple[int, str]:
    """How many rows of `other` a model has learned from, by those it was trained on, and what to say of them."""
    leaked = find_leaked_rows(train, other, words)
    if not len(leaked):
        return 0, ""
    (place,) = _places(train, other, leaked[:1], words)
    why = "the model and its baselines have learned them, so this is no test"
    return len(leaked), f"{other.name}: {_share(leaked, other)}, the first {place}; {why}"


def handle_leaks(
    train: Rows, others: Mapping[str, Rows], on_leak: OnLeak, fields: Sequence[str] = ("text",)
) -> tuple[Rows, list[str]]:
    """Train, without leaked rows where `on_leak` is "drop", and notes for the user.

    others: split name -> rows. Raises DataError for a leak where `on_leak` is "error", or when "drop" leaves nothing.
    """
    if on_leak not in get_args(OnLeak):
        raise RecipeError(f"data.on_leak: '{on_leak}' is not known", suggest_spelling(on_leak, get_args(OnLeak)))
    if on_leak == "ignore":
        return train, []
    if on_leak == "drop":
        return _drop(train, others, fields)
    if on_leak == "error":
        for name, other in others.items():
            _refuse(train, other, name, fields)
    return train, [note for name, other in others.items() if (note := describe_leaks(train, other, name, fields))]


def _refuse(train: Rows, other: Rows, name: str, words: Sequence[str]) -> None:
    leaked = find_leaked_rows(train, other, words)
    if len(leaked):
        places = _places(train, other, leaked[:MAX_SHOWN_PLACES], words)
        mend = "take them out, or let data.on_leak=drop remove them from train"
        raise DataError(f"{name}: {_share(leaked, other)}", mend, places, len(leaked))


def _drop(train: Rows, others: Mapping[str, Rows], words: Sequence[str]) -> tuple[Rows, list[str]]:
    elsewhere = {key for other in others.values() for key in normalize_rows(other, words)}
    kept = [row for row, key in enumerate(normalize_rows(train, words)) if key not in elsewhere]
    dropped = len(train) - len(kept)
    if not kept:
        what = f"train: all {pluralize(len(train), 'row')} also stand in {' or '.join(others)} ({EQUALITY_RULE})"
        raise DataError(what, "name other files, or set data.on_leak=report")
    if not dropped:
        return train, []
    removed = (
        f"{pluralize(dropped, 'row')} of {len(train):,} that also stand in {' or '.join(others)} ({EQUALITY_RULE})"
    )
    return train.take(kept), [f"train: removed {removed}; data.on_leak=drop"]


def _share(leaked: IndexArray, other: Rows) -> str:
    verb = "stands" if len(leaked) == 1 else "stand"
    share = f"{100 * len(leaked) / len(other):.1f} %"
    return f"{len(leaked):,} of {pluralize(len(other), 'row')} ({share}) also {verb} in train ({EQUALITY_RULE})"


def _places(train: Rows, other: Rows, leaked: IndexArray, words: Sequence[str]) -> list[str]:
    wanted = normalize_rows(other.take(leaked), words)
    in_train = normalize_rows(train, words)
    return [
        f"{other.location(row)} = {train.location(in_train.index(key))}"
        for row, key in zip(leaked, wanted, strict=True)
    ]
