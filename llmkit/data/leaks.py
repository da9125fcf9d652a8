"""Leak detection: rows of validation or test that are also in train, which makes scores too high."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from llmkit.data.normalize import normalize_rows
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import IndexArray, Rows
from llmkit.errors import MAX_SHOWN_PLACES, DataError, RecipeError, suggest_spelling

OnLeak = Literal["report", "error", "drop", "ignore"]
EQUALITY_RULE = "equal after case and space are normalized"


def find_leaked_rows(train: Rows, other: Rows, fields: Sequence[str]) -> IndexArray:
    """Return the indices of the rows of `other` whose normalized `fields` equal those of a train row."""
    train_keys = set(normalize_rows(train, fields))
    return np.array([row for row, key in enumerate(normalize_rows(other, fields)) if key in train_keys], dtype=np.int64)


def describe_leaks(train: Rows, other: Rows, name: str, fields: Sequence[str]) -> str | None:
    """Describe the rows of `other` that are also in train: count, share and first location; None without leaks."""
    leaked = find_leaked_rows(train, other, fields)
    if not len(leaked):
        return None
    (location,) = _locations(train, other, leaked[:1], fields)
    fixes = "data.on_leak=drop removes them from train, error stops the run, ignore hides this note"
    return f"{name}: {_leaked_share(leaked, other)}, the first {location}; {fixes}"


def check_trained_overlap(train: Rows, other: Rows, fields: Sequence[str]) -> tuple[int, str]:
    """Count the rows of `other` that a model was trained on, and describe them; (0, "") if there are none.

    train: the rows that the model was trained on.
    """
    leaked = find_leaked_rows(train, other, fields)
    if not len(leaked):
        return 0, ""
    (location,) = _locations(train, other, leaked[:1], fields)
    why = "the model and its baselines were trained on them, so the scores are inflated"
    return len(leaked), f"{other.name}: {_leaked_share(leaked, other)}, the first {location}; {why}"


def handle_leaks(
    train: Rows, others: Mapping[str, Rows], on_leak: OnLeak, fields: Sequence[str] = ("text",)
) -> tuple[Rows, list[str]]:
    """Return train, without its leaked rows if `on_leak` is "drop", and notes for the user.

    others: split name -> rows. Raises DataError for a leak if `on_leak` is "error", or if "drop" leaves no row.
    """
    if on_leak not in get_args(OnLeak):
        raise RecipeError(f"data.on_leak: '{on_leak}' is not known", suggest_spelling(on_leak, get_args(OnLeak)))
    if on_leak == "ignore":
        return train, []
    if on_leak == "drop":
        return _drop_leaked(train, others, fields)
    if on_leak == "error":
        for name, other in others.items():
            _raise_for_leaks(train, other, name, fields)
    return train, [note for name, other in others.items() if (note := describe_leaks(train, other, name, fields))]


def _raise_for_leaks(train: Rows, other: Rows, name: str, fields: Sequence[str]) -> None:
    leaked = find_leaked_rows(train, other, fields)
    if len(leaked):
        locations = _locations(train, other, leaked[:MAX_SHOWN_PLACES], fields)
        fix = "remove them, or let data.on_leak=drop remove them from train"
        raise DataError(f"{name}: {_leaked_share(leaked, other)}", fix, locations, len(leaked))


def _drop_leaked(train: Rows, others: Mapping[str, Rows], fields: Sequence[str]) -> tuple[Rows, list[str]]:
    other_keys = {key for other in others.values() for key in normalize_rows(other, fields)}
    kept = [row for row, key in enumerate(normalize_rows(train, fields)) if key not in other_keys]
    dropped = len(train) - len(kept)
    if not kept:
        what = f"train: all {pluralize(len(train), 'row')} are also in {' or '.join(others)} ({EQUALITY_RULE})"
        raise DataError(what, "name other files, or set data.on_leak=report")
    if not dropped:
        return train, []
    removed = f"{pluralize(dropped, 'row')} of {len(train):,} that are also in {' or '.join(others)} ({EQUALITY_RULE})"
    return train.take(kept), [f"train: removed {removed}; data.on_leak=drop"]


def _leaked_share(leaked: IndexArray, other: Rows) -> str:
    verb = "is" if len(leaked) == 1 else "are"
    share = f"{100 * len(leaked) / len(other):.1f} %"
    return f"{len(leaked):,} of {pluralize(len(other), 'row')} ({share}) {verb} also in train ({EQUALITY_RULE})"


def _locations(train: Rows, other: Rows, leaked: IndexArray, fields: Sequence[str]) -> list[str]:
    leaked_keys = normalize_rows(other.take(leaked), fields)
    train_keys = normalize_rows(train, fields)
    return [
        f"{other.location(row)} = {train.location(train_keys.index(key))}"
        for row, key in zip(leaked, leaked_keys, strict=True)
    ]
