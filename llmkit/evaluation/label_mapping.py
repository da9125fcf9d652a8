"""Mapping from the labels of the data to those of the model: equal, equal up to case and space, or by the user."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llmkit import console
from llmkit.data.labels.single import collect_set_label_names
from llmkit.data.row_errors import join_names, pluralize
from llmkit.data.rows import Rows
from llmkit.errors import MAX_SHOWN_PLACES, DataError, LlmkitError, UsageError, suggest_spelling
from llmkit.tasks.base import Task

LabelMap = Mapping[str, str] | Sequence[str]  # {DATA: MODEL}, or `DATA=MODEL` texts
MAX_SUGGESTED_LABELS = 10  # in a suggested fix


def check_label_map(given: Any) -> None:
    """Raise UsageError unless the value is a `LabelMap`, before any model is opened."""
    write = "write {'label of the data': 'label of the model'}"
    if isinstance(given, Mapping):
        for label, own in given.items():
            if not isinstance(label, str) or not isinstance(own, str):
                raise UsageError(f"label_map {{{label!r}: {own!r}}}: labels are text", "put both in quotes")
    elif not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise UsageError(f"label_map {given!r}: not a mapping", write)
    else:
        for one in given:
            if not isinstance(one, str):
                raise UsageError(f"label_map {one!r}: not a 'DATA=MODEL' text", write)


def get_reference_labels(reference: Any) -> Sequence[str]:
    """Return the labels in a reference: itself, or the items of a list."""
    return [reference] if isinstance(reference, str) else reference


def match_labels(task: Task, rows: Rows, references: Sequence[Any], given: LabelMap = ()) -> dict[str, str]:
    """Return the model's label for each differently spelled label of the data.

    Labels that `given` does not map must be equal to a label of the model. If none of them is, they are matched up to
    case and space, with a note; a note also lists labels of the data that become one label. Raises DataError for any
    other label, UsageError for a `given` map with unknown labels.
    """
    if not task.labels:
        if given:
            raise UsageError("--label-map: the model has no labels", "leave it out")
        return {}
    first_rows: dict[str, int] = {}
    for row, one in enumerate(references):
        for label in get_reference_labels(one):
            first_rows.setdefault(label, row)
    mapping = parse_label_map(given, list(first_rows), task.labels)
    unmapped = [label for label in first_rows if label not in mapping]
    unknown = [label for label in unmapped if label not in task.labels]
    if unknown:
        folded = match_folded_labels(unmapped, task.labels) if len(unknown) == len(unmapped) else None
        if folded is None:
            raise make_unknown_label_error(task, rows, references, first_rows, unknown, mapping)
        pairs = join_names([f"'{label}' is '{own}'" for label, own in folded.items()])
        console.print_message(f"labels matched up to case and space: {pairs}")
        mapping |= folded
    report_merged_labels(list(first_rows), mapping)
    return mapping


def report_merged_labels(data: Sequence[str], mapping: Mapping[str, str]) -> None:
    """Print which labels of the data become one label of the model; errors among them are not counted."""
    merged: dict[str, list[str]] = {}
    for label in data:
        merged.setdefault(mapping.get(label, label), []).append(f"'{label}'")
    messages = [f"{' and '.join(labels)} as '{own}'" for own, labels in merged.items() if len(labels) > 1]
    if messages:
        console.print_message(f"several labels count as one: {join_names(messages)}")


def map_references(references: Sequence[Any], mapping: Mapping[str, str]) -> list[Any]:
    """Replace the labels in the references by those of the model; duplicates in a row are dropped."""
    if not mapping:
        return list(references)
    return [
        mapping.get(one, one)
        if isinstance(one, str)
        else list(dict.fromkeys(mapping.get(label, label) for label in one))
        for one in references
    ]


def match_folded_labels(labels: Sequence[str], known: Sequence[str]) -> dict[str, str] | None:
    """Match labels up to case and space; None if a label matches no or several known labels."""
    matches = {label: [own for own in known if casefold_label(own) == casefold_label(label)] for label in labels}
    if any(len(same) != 1 for same in matches.values()):
        return None
    return {label: own for label, (own,) in matches.items()}


def casefold_label(label: str) -> str:
    """Return the label without differences in case and space."""
    return " ".join(label.casefold().split())


def parse_label_map(given: LabelMap, data: Sequence[str], model: Sequence[str]) -> dict[str, str]:
    """Parse and check the map: from labels of the data, each once, to labels of the model."""
    if isinstance(given, Mapping):
        pairs = [(f"label_map {{{label!r}: {own!r}}}", label, own) for label, own in given.items()]
    else:
        pairs = [(f"--label-map {text}", *split_label_pair(text, data, model)) for text in given]
    mapping: dict[str, str] = {}
    for name, label, own in pairs:
        if label not in data:
            raise UsageError(f"{name}: the data has no label '{label}'", suggest_spelling(label, data))
        if own not in model:
            raise UsageError(f"{name}: the model has no label '{own}'", suggest_spelling(own, model))
        if label in mapping:
            raise UsageError(f"{name}: '{label}' is mapped to '{mapping[label]}' already", "map each label once")
        mapping[label] = own
    return mapping


def split_label_pair(text: str, data: Iterable[str], model: Iterable[str]) -> tuple[str, str]:
    """Split `DATA=MODEL` at the = with labels on both sides (labels may contain =), else on one side."""
    splits = [(text[:i], text[i + 1 :]) for i, char in enumerate(text) if char == "="]
    if not splits:
        raise UsageError(
            f"--label-map {text}: not DATA=MODEL", "write a label of the data, =, and a label of the model"
        )
    left, right = [one for one in splits if one[0] in data], [one for one in splits if one[1] in model]
    both = [one for one in left if one in right]
    if len(both) > 1:
        ways = " or ".join(f"'{label}' and '{own}'" for label, own in both)
        raise UsageError(f"--label-map {text}: ambiguous: {ways}", "use Python: llmkit.evaluate(..., label_map={...})")
    return (both or left or right or splits)[0]


def make_unknown_label_error(
    task: Task,
    rows: Rows,
    references: Sequence[Any],
    first_rows: Mapping[str, int],
    unknown: Sequence[str],
    mapping: Mapping[str, str],
) -> LlmkitError:
    """Return the error for labels that the model does not have, with a suggested map."""
    counts = Counter(label for one in references for label in get_reference_labels(one))
    column = rows.column_mapping.get(task.target or "", "")
    label = unknown[0]
    names = join_names(collect_set_label_names([list(first_rows)]))
    what = (
        f"{rows.location(first_rows[label])}: label '{label}' of column '{column}' is not a label of the model: "
        f"the data has {names}, the model {join_names(task.labels)}"
    )
    used = {*mapping.values(), *(one for one in first_rows if one not in unknown)}
    pairs = guess_label_pairs(collect_set_label_names([unknown]), [one for one in task.labels if one not in used])
    flags = " ".join(f"--label-map {shlex.quote(f'{one}={own}')}" for one, own in pairs[:MAX_SUGGESTED_LABELS])
    more = " and so on" if len(pairs) > MAX_SUGGESTED_LABELS else ""
    if pairs:
        fix = f"if these have the same meaning, add {flags}{more}; else name the column of the labels with --label"
    else:
        fix = f"name the column of the labels with --label, or map each label with --label-map '{label}=LABEL'"
    places = [f"{rows.location(first_rows[one])}: '{one}' in {pluralize(counts[one], 'row')}" for one in unknown]
    return DataError(
        what, fix, places[:MAX_SHOWN_PLACES] if len(places) > 1 else (), len(places) if len(places) > 1 else 0
    )


def guess_label_pairs(unknown: Sequence[str], free: Sequence[str]) -> list[tuple[str, str]]:
    """Guess the unused label of the model for each unknown label, for the user to check; [] without a guess.

    LABEL_3 is the guess for 3; otherwise, with equally many labels on both sides, they are paired in order.
    """
    by_number = {f"LABEL_{label}": label for label in unknown}
    if all(name in free for name in by_number):
        return [(label, name) for name, label in by_number.items()]
    return list(zip(unknown, free, strict=True)) if len(unknown) == len(free) else []
