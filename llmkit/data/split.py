"""Split validation and test off train: equal texts stay together, each class keeps its share."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from llmkit.data.normalize import normalize_rows
from llmkit.data.row_errors import join_names, pluralize
from llmkit.data.rows import IndexArray, Rows
from llmkit.errors import DataError, RecipeError


def split_rows(
    rows: Rows,
    fractions: Mapping[str, float],
    seed: int,
    fields: Sequence[str] = ("text",),
    strata: Sequence[str] | None = None,
    labels: Sequence[Sequence[str]] | None = None,
) -> tuple[dict[str, Rows], list[str]]:
    """The rows as "train" and one part a name in `fractions` (shares of all rows), and notes for the user.

    Rows whose normalised words `by` are equal stay together. strata: one class a row, of which each part gets its share
    where the classes are large enough. labels: each row's labels where that is not its class alone; one text of each
    label stays in train. Deterministic for rows and seed. Raises DataError for too few texts, RecipeError for shares
    that leave nothing to train on.
    """
    shares = _checked(fractions)
    texts, group_of = np.unique(np.array(normalize_rows(rows, fields), dtype=object), return_inverse=True)
    classes, class_of = _classes(group_of, strata)
    holders = _holders(group_of, [[one] for one in strata or ()] if labels is None else labels)
    kept = np.unique([min(groups) for groups in holders.values()] or np.arange(min(len(texts), 1)))
    rest = np.setdiff1d(np.arange(len(texts)), kept)
    sizes = {name: max(1, round(share * len(texts))) for name, share in shares.items()}
    if sum(sizes.values()) > len(rest):
        raise _too_few(rows, shares, len(texts), len(holders))
    part_of = np.zeros(len(texts), dtype=np.int64)
    notes = []
    for part, (name, size) in enumerate(sizes.items(), start=1):
        chosen, stratified = _choose(rest, class_of[rest], size, seed)
        part_of[chosen] = part
        rest = np.setdiff1d(rest, chosen)
        if not stratified:
            notes.append(
                f"split: {pluralize(size, 'text')} for {name} cannot be stratified over {len(classes)} classes"
            )
    parts = {name: rows.take(np.flatnonzero(part_of[group_of] == i)) for i, name in enumerate(["train", *sizes])}
    counts = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    return parts, [f"split with seed {seed}: {counts} rows", *notes, *_only_in_train(part_of, holders)]


def _classes(group_of: IndexArray, strata: Sequence[str] | None) -> tuple[list[str], IndexArray]:
    """The classes' names and each group's class; all in one class without strata."""
    count = int(group_of.max(initial=-1)) + 1
    if strata is None:
        return ["all"], np.zeros(count, dtype=np.int64)
    names, ids = np.unique(np.array(strata, dtype=object), return_inverse=True)
    class_of = np.full(count, len(names), dtype=np.int64)
    np.minimum.at(class_of, group_of, ids)  # equal texts of several labels: the same one whatever the rows' order
    return list(names), class_of


def _holders(group_of: IndexArray, labels: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """The groups that each label stands in."""
    holders: dict[str, set[int]] = defaultdict(set)
    for group, row in zip(group_of.tolist() if labels else (), labels, strict=True):
        for label in row:
            holders[label].add(group)
    return holders


def _choose(groups: IndexArray, class_of: IndexArray, size: int, seed: int) -> tuple[IndexArray, bool]:
    """`size` of the groups, and whether each class of two or more gave its share."""
    from sklearn.model_selection import train_test_split

    names, counts = np.unique(class_of, return_counts=True)
    large = np.isin(class_of, names[counts > 1])
    classes = int((counts > 1).sum())
    if size >= classes and large.sum() - size >= classes > 0:
        return train_test_split(groups[large], test_size=size, stratify=class_of[large], random_state=seed)[1], True
    if size == len(groups):
        return groups, len(names) == 1
    return train_test_split(groups, test_size=size, random_state=seed)[1], len(names) == 1


def _only_in_train(part_of: IndexArray, holders: Mapping[str, set[int]]) -> list[str]:
    few = {name: list(groups) for name, groups in sorted(holders.items()) if len(groups) < 3}
    small = [f"'{name}' ({len(groups)})" for name, groups in few.items() if not part_of[groups].any()]
    if not small:
        return []
    verb = (
        "class has too few texts to be stratified and stays"
        if len(small) == 1
        else ("classes have too few texts to be stratified and stay")
    )
    return [f"split: {len(small):,} {verb} in train: {join_names(small, limit=5)}"]


def _checked(fractions: Mapping[str, float]) -> dict[str, float]:
    for name, share in fractions.items():
        if not (math.isfinite(share) and 0 <= share < 1):
            raise RecipeError(f"data.split.{name}: {share} is not a share of the rows", "write a number from 0 to 1")
    if sum(fractions.values()) >= 1:
        names = " + ".join(f"{name} {share}" for name, share in fractions.items())
        raise RecipeError(f"data.split: {names} leaves nothing to train on", "write smaller shares")
    return {name: share for name, share in fractions.items() if share}


def _too_few(rows: Rows, shares: Mapping[str, float], texts: int, classes: int) -> DataError:
    wanted = " and ".join(f"{name} ({100 * share:g} %)" for name, share in shares.items())
    of = f" of {classes} classes" if classes > 1 else ""
    are = "is" if texts == 1 else "are"
    what = f"{rows.name}: {pluralize(texts, 'different text')}{of} {are} too few to split off {wanted}"
    files = " and ".join(f"data.{name}" for name in shares)
    return DataError(what, f"give more rows, or name files with {files}")
