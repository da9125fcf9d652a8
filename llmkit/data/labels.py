"""The classes of a labelled set: their names in order, and whether the splits agree on them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from llmkit.data.faults import counted, listed
from llmkit.data.rows import Rows
from llmkit.errors import SHOWN, DataError, nearest

MOST_DIFFERENT = 0.5  # labels for each row: beyond it they are no classes
FEW = 20  # rows; of fewer nothing is said
INTEGER = re.compile(r"[+-]?[0-9]{1,18}")


def label_names(train: Rows, word: str = "label") -> list[str]:
    """The distinct labels of train: in numeric order when all are integers ("2" before "10"), else in plain order."""
    return _ordered(train.texts(word))


def _ordered(labels: Iterable[str]) -> list[str]:
    names = sorted(set(labels))
    return sorted(names, key=int) if all(INTEGER.fullmatch(name) for name in names) else names


def plausible(rows: Rows, word: str) -> None:
    """Raise DataError where nearly every row has a label of its own: then the column holds no classes."""
    different = len(set(rows.texts(word)))
    if different > MOST_DIFFERENT * len(rows) and len(rows) >= FEW:
        what = f"{rows.name}: column '{rows.column(word)}' holds {different:,} different labels in {len(rows):,} rows"
        raise DataError(what, f"is it the {word}? data.columns.{word}=COLUMN or --{word} COLUMN names another")


def check(train: Rows, others: Mapping[str, Rows], word: str = "label") -> list[str]:
    """Notes on the labels of train. `others` holds the further splits by name.

    Raises DataError when train has one row or one class, or another split a label that train has not.
    """
    labels = train.texts(word)
    counts = Counter(labels)
    if len(labels) < 2:
        raise DataError(f"{train.name}: train has {counted(len(labels), 'row')}", "a classifier learns from many")
    if len(counts) == 1:
        what = f"{train.name}: all {counted(len(labels), 'row')} of train have the label '{labels[0]}'"
        raise DataError(what, f"a classifier needs two classes; data.columns.{word}=COLUMN names another column")
    for name, rows in others.items():
        _refuse_unseen(rows, name, counts, word)
    return [*_alike(counts), *_single(train, labels, counts)]


def _refuse_unseen(rows: Rows, name: str, known: Counter[str], word: str) -> None:
    labels = rows.texts(word)
    unseen = {label: times for label, times in Counter(labels).items() if label not in known}
    if not unseen:
        return
    shown = list(unseen.items())[:SHOWN]
    places = [f"{rows.where(labels.index(label))}: '{label}' in {counted(times, 'row')}" for label, times in shown]
    first = next(iter(unseen))
    near = nearest(first, list(known))
    mend = f"did you mean '{near}'?" if near else f"train has {listed(_quoted(_ordered(known)))}"
    bad = counted(sum(unseen.values()), "row")
    what = f"{rows.where(labels.index(first))}: label '{first}' does not occur in train ({bad} of {name})"
    raise DataError(what, mend, places if len(unseen) > 1 else (), len(unseen) if len(unseen) > 1 else 0)


def _alike(counts: Mapping[str, int]) -> list[str]:
    groups = defaultdict(list)
    for label in sorted(counts):
        groups[" ".join(label.casefold().split())].append(label)
    alike = [group for group in groups.values() if len(group) > 1]
    named = [" and ".join(f"'{label}' ({counted(counts[label], 'row')})" for label in group) for group in alike]
    return [f"labels {names} differ only by case or space; they are kept apart" for names in named]


def _single(train: Rows, labels: Sequence[str], counts: Mapping[str, int]) -> list[str]:
    single = [label for label, times in counts.items() if times == 1]
    if not single:
        return []
    places = [f"'{label}' ({train.where(labels.index(label))})" for label in single[:SHOWN]]
    more = f" and {len(single) - SHOWN:,} more" if len(single) > SHOWN else ""
    return [f"{counted(len(single), 'label')} with one row only: {', '.join(places)}{more}"]


def _quoted(names: Sequence[str]) -> list[str]:
    return [f"'{name}'" for name in names]
