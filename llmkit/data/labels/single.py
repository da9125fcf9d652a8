"""Checks the class labels of the splits: their names and order, rare or missing labels, and labels unseen in train."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from llmkit.data.columns import format_column_fix
from llmkit.data.labels.cells import format_separator_override, is_plain_number
from llmkit.data.row_errors import join_names, pluralize
from llmkit.data.rows import Rows
from llmkit.errors import MAX_SHOWN_PLACES, DataError, find_nearest_word

MAX_DISTINCT_SHARE = 0.5  # distinct labels / labels: a column with more holds no classes
MIN_ROWS_TO_CHECK = 20  # fewer rows are not checked
INTEGER_LABEL = re.compile(r"[+-]?[0-9]{1,18}")
COMMON_SEPARATORS = (",", ";", "|")

LabelSets = Sequence[Sequence[str]]  # the labels of each row


def collect_label_names(train: Rows, field: str = "label") -> list[str]:
    """Return the distinct labels of train, in numeric order if all are integers ("2" before "10"), else sorted."""
    return _sort_labels(train.texts(field))


def _sort_labels(labels: Iterable[str]) -> list[str]:
    names = sorted(set(labels))
    return sorted(names, key=int) if all(INTEGER_LABEL.fullmatch(name) for name in names) else names


def collect_set_label_names(sets: LabelSets) -> list[str]:
    """Return the distinct labels of rows with several labels each, in the order of `collect_label_names`."""
    return _sort_labels(label for labels in sets for label in labels)


def check_distinct_labels(rows: Rows, field: str, sets: LabelSets | None = None) -> None:
    """Raise DataError if nearly every label occurs only once, because such a column holds no classes.

    sets: the labels of each row if a row may have several; otherwise its cell is its label.
    """
    labels = rows.texts(field) if sets is None else [label for labels in sets for label in labels]
    distinct = len(set(labels))
    if distinct > MAX_DISTINCT_SHARE * len(labels) and len(rows) >= MIN_ROWS_TO_CHECK:
        column = rows.column_name(field)
        what = f"{rows.name}: column '{column}' holds {distinct:,} different labels in {len(rows):,} rows"
        fix = f"is it the {field}? {format_column_fix(field)} names another"
        if all(map(is_plain_number, labels)):
            fix += "; to predict the number itself set classify.kind=regression"
        raise DataError(what, fix)


def check_single_labels(train: Rows, others: Mapping[str, Rows], field: str = "label") -> list[str]:
    """Check rows with one label each and return notes on the labels of train. `others`: the other splits by name.

    Raises DataError if train has one row or one class, or if another split has a label that train lacks.
    """
    labels = train.texts(field)
    counts = Counter(labels)
    if len(labels) < 2:
        raise DataError(
            f"{train.name}: train has {pluralize(len(labels), 'row')}", "a classifier needs at least 2 rows"
        )
    if len(counts) == 1:
        what = f"{train.name}: all {pluralize(len(labels), 'row')} of train have the label '{labels[0]}'"
        raise DataError(what, f"a classifier needs two classes; data.columns.{field}=COLUMN names another column")
    for name, rows in others.items():
        _check_unseen_labels(rows, [[label] for label in rows.texts(field)], name, counts)
    return [*_note_similar_labels(counts), *_note_rare_labels(train, [[label] for label in labels], counts)]


def check_label_sets(
    train_sets: LabelSets, train: Rows, others: Mapping[str, tuple[LabelSets, Rows]], field: str = "label"
) -> list[str]:
    """Check rows with several labels each and return notes. `others`: label sets and rows of the other splits by name.

    Raises DataError if train has one row or no label at all, or if another split has a label that train lacks.
    """
    counts = Counter(label for labels in train_sets for label in labels)
    if len(train_sets) < 2:
        what = f"{train.name}: train has {pluralize(len(train_sets), 'row')}"
        raise DataError(what, "a classifier needs at least 2 rows")
    if not counts:
        what = f"{train.name}: none of the {len(train_sets):,} rows of train has a label"
        raise DataError(what, f"write them, or map another column with {format_column_fix(field)}")
    for name, (sets, rows) in others.items():
        _check_unseen_labels(rows, sets, name, counts)
    by_split = {"train": train_sets} | {name: sets for name, (sets, _) in others.items()}
    notes = [*_note_similar_labels(counts), *_note_rare_labels(train, train_sets, counts)]
    notes += [*_note_constant_labels(counts, len(train_sets)), *_note_unsplit_labels(train_sets, train, field)]
    return [*notes, *_note_unlabeled_rows(by_split)]


def _check_unseen_labels(rows: Rows, sets: LabelSets, split: str, known: Counter[str]) -> None:
    unseen = Counter(label for labels in sets for label in labels if label not in known)
    if not unseen:
        return
    first_row = _index_first_rows(sets)
    shown = list(unseen.items())[:MAX_SHOWN_PLACES]
    places = [f"{rows.location(first_row[label])}: '{label}' in {pluralize(times, 'row')}" for label, times in shown]
    first = next(iter(unseen))
    nearest = find_nearest_word(first, list(known))
    fix = f"did you mean '{nearest}'?" if nearest else f"train has {join_names(_quote_names(_sort_labels(known)))}"
    bad = pluralize(sum(not unseen.keys().isdisjoint(labels) for labels in sets), "row")
    what = f"{rows.location(first_row[first])}: label '{first}' does not occur in train ({bad} of {split})"
    raise DataError(what, fix, places if len(unseen) > 1 else (), len(unseen) if len(unseen) > 1 else 0)


def _note_similar_labels(counts: Mapping[str, int]) -> list[str]:
    groups = defaultdict(list)
    for label in sorted(counts):
        groups[" ".join(label.casefold().split())].append(label)
    similar = [group for group in groups.values() if len(group) > 1]
    texts = [" and ".join(f"'{label}' ({pluralize(counts[label], 'row')})" for label in group) for group in similar]
    return [f"labels {labels} differ only by case or space; they are kept apart" for labels in texts]


def _note_rare_labels(train: Rows, sets: LabelSets, counts: Mapping[str, int]) -> list[str]:
    rare = [label for label, times in counts.items() if times == 1]
    if not rare:
        return []
    first_row = _index_first_rows(sets)
    places = [f"'{label}' ({train.location(first_row[label])})" for label in rare[:MAX_SHOWN_PLACES]]
    more = f" and {len(rare) - MAX_SHOWN_PLACES:,} more" if len(rare) > MAX_SHOWN_PLACES else ""
    return [f"{pluralize(len(rare), 'label')} with one row only: {', '.join(places)}{more}"]


def _note_constant_labels(counts: Mapping[str, int], rows: int) -> list[str]:
    constant = [label for label, times in counts.items() if times == rows]
    if not constant:
        return []
    labels = join_names(_quote_names(constant), limit=MAX_SHOWN_PLACES)
    return [f"every row of train has {labels}: there are no negative examples"]


def _note_unsplit_labels(sets: LabelSets, train: Rows, field: str) -> list[str]:
    """Return a note if no row has two labels, with the separator that the labels seem to be written with."""
    if any(len(labels) > 1 for labels in sets):
        return []
    note = "no row of train has two labels"
    counts = {one: sum(one in label for labels in sets for label in labels) for one in COMMON_SEPARATORS}
    likely = max(COMMON_SEPARATORS, key=lambda one: counts[one])
    if train.formats[train.column_name(field)] == "json" or not counts[likely]:
        return [note]
    verb = "holds" if counts[likely] == 1 else "hold"
    override = format_separator_override(likely)
    return [f"{note}, and {pluralize(counts[likely], 'label')} {verb} '{likely}': {override} splits there"]


def _note_unlabeled_rows(by_split: Mapping[str, LabelSets]) -> list[str]:
    unlabeled = {split: sum(not labels for labels in sets) for split, sets in by_split.items()}
    return [
        f"{unlabeled[split]:,} of {pluralize(len(sets), 'row')} of {split} without any label"
        for split, sets in by_split.items()
        if unlabeled[split]
    ]


def _index_first_rows(sets: LabelSets) -> dict[str, int]:
    """Map each label to the first row that has it."""
    first: dict[str, int] = {}
    for row, labels in enumerate(sets):
        for label in labels:
            first.setdefault(label, row)
    return first


def _quote_names(names: Sequence[str]) -> list[str]:
    return [f"'{name}'" for name in names]
