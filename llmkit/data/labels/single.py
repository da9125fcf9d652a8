"""The classes of a labelled set: their names in order, and whether the splits agree on them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from llmkit.data.columns import format_column_fix
from llmkit.data.labels.cells import format_separator_override, is_plain_number
from llmkit.data.row_errors import join_names, pluralize
from llmkit.data.rows import Rows
from llmkit.errors import MAX_SHOWN_PLACES, DataError, find_nearest_word

MAX_DISTINCT_SHARE = 0.5  # labels for each row: beyond it they are no classes
MIN_ROWS_TO_CHECK = 20  # rows; of fewer nothing is said
INTEGER_LABEL = re.compile(r"[+-]?[0-9]{1,18}")
COMMON_SEPARATORS = (",", ";", "|")  # that several labels are often written with

LabelSets = Sequence[Sequence[str]]  # the labels of each row


def collect_label_names(train: Rows, word: str = "label") -> list[str]:
    """The distinct labels of train: in numeric order when all are integers ("2" before "10"), else in plain order."""
    return _ordered(train.texts(word))


def _ordered(labels: Iterable[str]) -> list[str]:
    names = sorted(set(labels))
    return sorted(names, key=int) if all(INTEGER_LABEL.fullmatch(name) for name in names) else names


def collect_set_label_names(sets: LabelSets) -> list[str]:
    """The distinct labels of rows with several each, ordered as `label_names` orders them."""
    return _ordered(label for labels in sets for label in labels)


def check_distinct_labels(rows: Rows, word: str, sets: LabelSets | None = None) -> None:
    """Raise DataError where nearly every label is there once: then the column holds no classes.

    `sets`: each row's labels where it may have several; else its cell is its label.
    """
    labels = rows.texts(word) if sets is None else [label for labels in sets for label in labels]
    different = len(set(labels))
    if different > MAX_DISTINCT_SHARE * len(labels) and len(rows) >= MIN_ROWS_TO_CHECK:
        what = (
            f"{rows.name}: column '{rows.column_name(word)}' holds {different:,} different labels in {len(rows):,} rows"
        )
        mend = f"is it the {word}? {format_column_fix(word)} names another"
        if all(map(is_plain_number, labels)):
            mend += "; to predict the number itself set classify.kind=regression"
        raise DataError(what, mend)


def check_single_labels(train: Rows, others: Mapping[str, Rows], word: str = "label") -> list[str]:
    """Notes on the labels of train. `others` holds the further splits by name.

    Raises DataError when train has one row or one class, or another split a label that train has not.
    """
    labels = train.texts(word)
    counts = Counter(labels)
    if len(labels) < 2:
        raise DataError(f"{train.name}: train has {pluralize(len(labels), 'row')}", "a classifier learns from many")
    if len(counts) == 1:
        what = f"{train.name}: all {pluralize(len(labels), 'row')} of train have the label '{labels[0]}'"
        raise DataError(what, f"a classifier needs two classes; data.columns.{word}=COLUMN names another column")
    for name, rows in others.items():
        _refuse_unseen(rows, [[label] for label in rows.texts(word)], name, counts)
    return [*_alike(counts), *_single(train, [[label] for label in labels], counts)]


def check_label_sets(
    train_sets: LabelSets, train: Rows, others: Mapping[str, tuple[LabelSets, Rows]], word: str = "label"
) -> list[str]:
    """Notes on the labels of train, of which a row may have several. `others`: split name -> its sets and its rows.

    Raises DataError when train has one row or no label at all, or another split a label that train has not.
    """
    counts = Counter(label for labels in train_sets for label in labels)
    if len(train_sets) < 2:
        raise DataError(f"{train.name}: train has {pluralize(len(train_sets), 'row')}", "a classifier learns from many")
    if not counts:
        what = f"{train.name}: none of the {len(train_sets):,} rows of train has a label"
        raise DataError(what, f"write them, or map another column with {format_column_fix(word)}")
    for name, (sets, rows) in others.items():
        _refuse_unseen(rows, sets, name, counts)
    by_split = {"train": train_sets} | {name: sets for name, (sets, _) in others.items()}
    notes = [*_alike(counts), *_single(train, train_sets, counts), *_everywhere(counts, len(train_sets))]
    return [*notes, *_never_two(train_sets, train, word), *_without(by_split)]


def _refuse_unseen(rows: Rows, sets: LabelSets, name: str, known: Counter[str]) -> None:
    unseen = Counter(label for labels in sets for label in labels if label not in known)
    if not unseen:
        return
    at = _first_rows(sets)
    shown = list(unseen.items())[:MAX_SHOWN_PLACES]
    places = [f"{rows.location(at[label])}: '{label}' in {pluralize(times, 'row')}" for label, times in shown]
    first = next(iter(unseen))
    near = find_nearest_word(first, list(known))
    mend = f"did you mean '{near}'?" if near else f"train has {join_names(_quoted(_ordered(known)))}"
    bad = pluralize(sum(not unseen.keys().isdisjoint(labels) for labels in sets), "row")
    what = f"{rows.location(at[first])}: label '{first}' does not occur in train ({bad} of {name})"
    raise DataError(what, mend, places if len(unseen) > 1 else (), len(unseen) if len(unseen) > 1 else 0)


def _alike(counts: Mapping[str, int]) -> list[str]:
    groups = defaultdict(list)
    for label in sorted(counts):
        groups[" ".join(label.casefold().split())].append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    named = [" and ".join(f"'{label}' ({pluralize(counts[label], 'row')})" for label in group) for group in alike]
    return [f"labels {names} differ only by case or space; they are kept apart" for names in named]


def _single(train: Rows, sets: LabelSets, counts: Mapping[str, int]) -> list[str]:
    single = [label for label, times in counts.items() if times == 1]
    if not single:
        return []
    at = _first_rows(sets)
    places = [f"'{label}' ({train.location(at[label])})" for label in single[:MAX_SHOWN_PLACES]]
    more = f" and {len(single) - MAX_SHOWN_PLACES:,} more" if len(single) > MAX_SHOWN_PLACES else ""
    return [f"{pluralize(len(single), 'label')} with one row only: {', '.join(places)}{more}"]


def _everywhere(counts: Mapping[str, int], rows: int) -> list[str]:
    always = [label for label, times in counts.items() if times == rows]
    if not always:
        return []
    return [f"every row of train has {join_names(_quoted(always), limit=MAX_SHOWN_PLACES)}: no row shows its absence"]


def _never_two(sets: LabelSets, train: Rows, word: str) -> list[str]:
    """A note where no row has two labels, naming the separator that the labels may have been written with."""
    if any(len(labels) > 1 for labels in sets):
        return []
    note = "no row of train has two labels"
    holds = {one: sum(one in label for labels in sets for label in labels) for one in COMMON_SEPARATORS}
    likely = max(COMMON_SEPARATORS, key=lambda one: holds[one])
    if train.formats[train.column_name(word)] == "json" or not holds[likely]:
        return [note]
    verb = "holds" if holds[likely] == 1 else "hold"
    return [
        f"{note}, and {pluralize(holds[likely], 'label')} {verb} '{likely}': {format_separator_override(likely)} splits there"
    ]


def _without(by_split: Mapping[str, LabelSets]) -> list[str]:
    none = {name: sum(not labels for labels in sets) for name, sets in by_split.items()}
    return [
        f"{none[name]:,} of {pluralize(len(sets), 'row')} of {name} without any label"
        for name, sets in by_split.items()
        if none[name]
    ]


def _first_rows(sets: LabelSets) -> dict[str, int]:
    """The first row that each label stands in."""
    first: dict[str, int] = {}
    for row, labels in enumerate(sets):
        for label in labels:
            first.setdefault(label, row)
    return first


def _quoted(names: Sequence[str]) -> list[str]:
    return [f"'{name}'" for name in names]
