"""The labels of the data in the model's words: by spelling, by case and space, or as the user maps them."""

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
MAX_SUGGESTED_LABELS = 10  # labels that a mend spells out


def check_label_map(given: Any) -> None:
    """Raise UsageError for what is no `Given`, before any model is looked at."""
    write = "write {'label of the data': 'label of the model'}"
    if isinstance(given, Mapping):
        for label, own in given.items():
            if not isinstance(label, str) or not isinstance(own, str):
                raise UsageError(f"label_map {{{label!r}: {own!r}}}: labels are text", "put both in quotes")
    elif not isinstance(given, Sequence) or isinstance(given, str | bytes):
        raise UsageError(f"label_map {given!r}: no mapping", write)
    else:
        for one in given:
            if not isinstance(one, str):
                raise UsageError(f"label_map {one!r}: no 'DATA=MODEL' text", write)


def get_reference_labels(reference: Any) -> Sequence[str]:
    """The labels in a reference: itself, or the several that it holds."""
    return [reference] if isinstance(reference, str) else reference


def match_labels(task: Task, rows: Rows, references: Sequence[Any], given: LabelMap = ()) -> dict[str, str]:
    """The model's label for each label of the data that is spelled otherwise; {} where none is.

    What `given` does not map must be equal; or, where no label is, equal but for case and space: that is said in a
    note, and so is which labels of the data become one. Raises DataError for any other label, UsageError for a `given`
    map that does not fit both sides.
    """
    if not task.labels:
        if given:
            raise UsageError("--label-map: the model has no labels", "leave it out")
        return {}
    first: dict[str, int] = {}
    for row, one in enumerate(references):
        for label in get_reference_labels(one):
            first.setdefault(label, row)
    mapping = parse_label_map(given, list(first), task.labels)
    rest = [label for label in first if label not in mapping]
    strange = [label for label in rest if label not in task.labels]
    if strange:
        by_fold = match_folded_labels(rest, task.labels) if len(strange) == len(rest) else None
        if by_fold is None:
            raise make_unknown_label_error(task, rows, references, first, strange, mapping)
        pairs = join_names([f"'{label}' is '{own}'" for label, own in by_fold.items()])
        console.print_message(f"labels matched but for case and space: {pairs}")
        mapping |= by_fold
    report_merged_labels(list(first), mapping)
    return mapping


def report_merged_labels(data: Sequence[str], mapping: Mapping[str, str]) -> None:
    """Say which labels of the data are one label of the model: between them nothing is judged."""
    meaning: dict[str, list[str]] = {}
    for label in data:
        meaning.setdefault(mapping.get(label, label), []).append(f"'{label}'")
    joined = [f"{' and '.join(labels)} as '{own}'" for own, labels in meaning.items() if len(labels) > 1]
    if joined:
        console.print_message(f"several labels count as one: {join_names(joined)}")


def map_references(references: Sequence[Any], mapping: Mapping[str, str]) -> list[Any]:
    """The references with each label as the model spells it; a label that comes twice in a row counts once."""
    if not mapping:
        return list(references)
    return [
        mapping.get(one, one) if isinstance(one, str) else list(dict.fromkeys(mapping.get(word, word) for word in one))
        for one in references
    ]


def match_folded_labels(labels: Sequence[str], known: Sequence[str]) -> dict[str, str] | None:
    """The one known label that each equals but for case and space; None where one has none or several."""
    alike = {label: [own for own in known if casefold_label(own) == casefold_label(label)] for label in labels}
    if any(len(found) != 1 for found in alike.values()):
        return None
    return {label: own for label, (own,) in alike.items()}


def casefold_label(label: str) -> str:
    return " ".join(label.casefold().split())


def parse_label_map(given: LabelMap, data: Sequence[str], model: Sequence[str]) -> dict[str, str]:
    """The map as given, checked: from labels that the data has, each once, to labels that the model has."""
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
    """`DATA=MODEL` split where both sides are labels, which may hold a = themselves; else where one side is."""
    splits = [(text[:i], text[i + 1 :]) for i, char in enumerate(text) if char == "="]
    if not splits:
        raise UsageError(f"--label-map {text}: no DATA=MODEL", "write a label of the data, =, and one of the model")
    left, right = [one for one in splits if one[0] in data], [one for one in splits if one[1] in model]
    both = [one for one in left if one in right]
    if len(both) > 1:
        ways = " or ".join(f"'{label}' and '{own}'" for label, own in both)
        raise UsageError(f"--label-map {text}: {ways}", "say it in Python: llmkit.evaluate(..., label_map={...})")
    return (both or left or right or splits)[0]


def make_unknown_label_error(
    task: Task,
    rows: Rows,
    references: Sequence[Any],
    first: Mapping[str, int],
    strange: Sequence[str],
    mapping: Mapping[str, str],
) -> LlmkitError:
    """What to say of labels that are none of the model's, with a map that can be typed."""
    counts = Counter(label for one in references for label in get_reference_labels(one))
    column = rows.column_mapping.get(task.target or "", "")
    label = strange[0]
    names = join_names(collect_set_label_names([list(first)]))
    what = (
        f"{rows.location(first[label])}: label '{label}' of column '{column}' is none of the model's: "
        f"the data has {names}, the model {join_names(task.labels)}"
    )
    taken = {*mapping.values(), *(one for one in first if one not in strange)}
    pairs = guess_label_pairs(collect_set_label_names([strange]), [one for one in task.labels if one not in taken])
    flags = " ".join(f"--label-map {shlex.quote(f'{one}={own}')}" for one, own in pairs[:MAX_SUGGESTED_LABELS])
    more = " and so on" if len(pairs) > MAX_SUGGESTED_LABELS else ""
    if pairs:
        mend = f"if these mean the same, add {flags}{more}; else name the column of the labels with --label"
    else:
        mend = f"name the column of the labels with --label, or say what each means with --label-map '{label}=LABEL'"
    places = [f"{rows.location(first[one])}: '{one}' in {pluralize(counts[one], 'row')}" for one in strange]
    return DataError(
        what, mend, places[:MAX_SHOWN_PLACES] if len(places) > 1 else (), len(places) if len(places) > 1 else 0
    )


def guess_label_pairs(strange: Sequence[str], free: Sequence[str]) -> list[tuple[str, str]]:
    """A guess, for the user to judge, at which free label of the model each strange one means; [] where there is none.

    LABEL_3 for 3 is the likeliest; else as many labels on both sides are taken in their order.
    """
    by_number = {f"LABEL_{label}": label for label in strange}
    if all(name in free for name in by_number):
        return [(label, name) for name, label in by_number.items()]
    return list(zip(strange, free, strict=True)) if len(strange) == len(free) else []
