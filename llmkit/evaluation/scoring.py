"""Scores of predictions: the task's own metrics, and requested metrics of foreign code."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmkit.evaluation.foreign_metrics import get_foreign_metrics, get_score_name, run_metric_on_rows
from llmkit.metrics import Score
from llmkit.recipe.metric_names import split_foreign_metrics
from llmkit.tasks.base import Prediction, Task


def score_predictions(
    task: Task,
    names: Sequence[str],
    references: Sequence[Any],
    predictions: Sequence[Prediction],
    *,
    intervals: bool = True,
) -> dict[str, Score]:
    """Score the named metrics; `evaluate:x` gives one or several scores (`evaluate:x.key`), a metric file one.

    Without `intervals` nothing is resampled: bounds are NaN, and the task's own metrics have no signature.
    """
    own, foreign = split_foreign_metrics(names)
    scores: dict[str, Score] = {}
    if own:
        # A custom task may have no statistic, which is only required to compare models.
        values_suffice = not intervals and type(task).statistic is not Task.statistic
        scores = (
            score_without_intervals(task, own, references, predictions)
            if values_suffice
            else task.score(own, references, predictions)
        )
    by_name: dict[str, Mapping[str, Score]] = {name: {name: scores[name]} for name in own}
    order = order_by_content(references, predictions) if foreign else []
    for name in foreign:
        by_name[name] = get_foreign_metrics(name).score(
            run_metric_on_rows(task, name, references, predictions, order), intervals
        )
    return {key: score for name in names for key, score in by_name[name].items()}


def score_without_intervals(
    task: Task, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
) -> dict[str, Score]:
    """Compute the values of the task's own metrics without resampling."""
    import numpy as np

    values = task.statistic(names, references, predictions)(np.ones((1, len(predictions))))[0]
    return {name: Score(float(value), math.nan, math.nan, "") for name, value in zip(names, values, strict=True)}


def find_score(scores: Mapping[str, Score], name: str) -> Score:
    """Return the score of the metric, or the first of its several scores."""
    first = get_score_name(name)
    return scores.get(first) or next(score for key, score in scores.items() if key.startswith(f"{first}."))


def order_by_content(references: Sequence[Any], *predictions: Sequence[Prediction]) -> list[int]:
    """Sort row indices by content, so that intervals do not depend on the order of the file."""
    keys = [repr(one) for one in zip(references, *predictions, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__)
