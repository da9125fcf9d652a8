"""Stratified splitting of validation and test off train, with equal texts kept in one split."""

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
    """Split rows into "train" and one part for each name in `fractions`, and return notes for the user.

    fractions: part name -> fraction of all rows. fields: rows whose normalized fields are equal stay in one part.
    strata: one class for each row; each part is stratified by it if the classes are large enough. labels: each row's
    labels, if they differ from `strata`; one text of each label stays in train. The result depends only on rows and
    seed. Raises DataError for too few texts, RecipeError for fractions that leave no training rows.
    """
    fractions = _check_fractions(fractions)
    texts, group_of = np.unique(np.array(normalize_rows(rows, fields), dtype=object), return_inverse=True)
    classes, class_of = _assign_classes(group_of, strata)
    groups_by_label = _group_by_label(group_of, [[one] for one in strata or ()] if labels is None else labels)
    kept = np.unique([min(groups) for groups in groups_by_label.values()] or np.arange(min(len(texts), 1)))
    rest = np.setdiff1d(np.arange(len(texts)), kept)
    sizes = {name: max(1, round(fraction * len(texts))) for name, fraction in fractions.items()}
    if sum(sizes.values()) > len(rest):
        raise _too_few_texts_error(rows, fractions, len(texts), len(groups_by_label))
    part_of = np.zeros(len(texts), dtype=np.int64)
    notes = []
    for part, (name, size) in enumerate(sizes.items(), start=1):
        chosen, stratified = _sample_groups(rest, class_of[rest], size, seed)
        part_of[chosen] = part
        rest = np.setdiff1d(rest, chosen)
        if not stratified:
            notes.append(
                f"split: {pluralize(size, 'text')} for {name} cannot be stratified over {len(classes)} classes"
            )
    parts = {name: rows.take(np.flatnonzero(part_of[group_of] == i)) for i, name in enumerate(["train", *sizes])}
    counts = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    return parts, [f"split with seed {seed}: {counts} rows", *notes, *_describe_train_only(part_of, groups_by_label)]


def _assign_classes(group_of: IndexArray, strata: Sequence[str] | None) -> tuple[list[str], IndexArray]:
    """Return class names and the class index of each group; without strata all groups have one class."""
    count = int(group_of.max(initial=-1)) + 1
    if strata is None:
        return ["all"], np.zeros(count, dtype=np.int64)
    names, ids = np.unique(np.array(strata, dtype=object), return_inverse=True)
    class_of = np.full(count, len(names), dtype=np.int64)
    np.minimum.at(class_of, group_of, ids)  # equal texts with several labels: the minimum does not depend on row order
    return list(names), class_of


def _group_by_label(group_of: IndexArray, labels: Sequence[Sequence[str]]) -> dict[str, set[int]]:
    """Return the groups in which each label occurs."""
    groups_by_label: dict[str, set[int]] = defaultdict(set)
    for group, row in zip(group_of.tolist() if labels else (), labels, strict=True):
        for label in row:
            groups_by_label[label].add(group)
    return groups_by_label


def _sample_groups(groups: IndexArray, class_of: IndexArray, size: int, seed: int) -> tuple[IndexArray, bool]:
    """Sample `size` groups, and return whether the sample is stratified over all classes with two or more groups."""
    from sklearn.model_selection import train_test_split

    names, counts = np.unique(class_of, return_counts=True)
    large = np.isin(class_of, names[counts > 1])
    classes = int((counts > 1).sum())
    if size >= classes and large.sum() - size >= classes > 0:
        return train_test_split(groups[large], test_size=size, stratify=class_of[large], random_state=seed)[1], True
    if size == len(groups):
        return groups, len(names) == 1
    return train_test_split(groups, test_size=size, random_state=seed)[1], len(names) == 1


def _describe_train_only(part_of: IndexArray, groups_by_label: Mapping[str, set[int]]) -> list[str]:
    rare = {name: list(groups) for name, groups in sorted(groups_by_label.items()) if len(groups) < 3}
    small = [f"'{name}' ({len(groups)})" for name, groups in rare.items() if not part_of[groups].any()]
    if not small:
        return []
    verb = (
        "class has too few texts to be stratified and stays"
        if len(small) == 1
        else ("classes have too few texts to be stratified and stay")
    )
    return [f"split: {len(small):,} {verb} in train: {join_names(small, limit=5)}"]


def _check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    for name, fraction in fractions.items():
        if not (math.isfinite(fraction) and 0 <= fraction < 1):
            raise RecipeError(f"data.split.{name}: {fraction} is not a share of the rows", "write a number from 0 to 1")
    if sum(fractions.values()) >= 1:
        names = " + ".join(f"{name} {fraction}" for name, fraction in fractions.items())
        raise RecipeError(f"data.split: {names} leaves nothing to train on", "write smaller shares")
    return {name: fraction for name, fraction in fractions.items() if fraction}


def _too_few_texts_error(rows: Rows, fractions: Mapping[str, float], texts: int, classes: int) -> DataError:
    parts = " and ".join(f"{name} ({100 * fraction:g} %)" for name, fraction in fractions.items())
    of = f" of {classes} classes" if classes > 1 else ""
    are = "is" if texts == 1 else "are"
    what = f"{rows.name}: {pluralize(texts, 'different text')}{of} {are} too few to split off {parts}"
    files = " and ".join(f"data.{name}" for name in fractions)
    return DataError(what, f"give more rows, or name files with {files}")
