"""Scores of predictions: the task's own metrics, and requested metrics of the evaluate library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from llmkit.metrics import Score
from llmkit.metrics.external import evaluate_library
from llmkit.recipe.load import EVALUATE_PREFIX
from llmkit.tasks.base import Prediction, Task


def score_predictions(
    task: Task,
    names: Sequence[str],
    references: Sequence[Any],
    predictions: Sequence[Prediction],
    *,
    intervals: bool = True,
) -> dict[str, Score]:
    """Score the named metrics; a name `evaluate:x` gives one or several scores (`evaluate:x.key`).

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
        by_name[name] = evaluate_library.score_evaluate_metric(
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
    """Return the score of that name, or the first of several scores of the metric."""
    return scores.get(name) or next(score for key, score in scores.items() if key.startswith(f"{name}."))


def check_metric_scripts(names: Sequence[str]) -> None:
    """Raise MissingInputError for a metric of the evaluate library with a missing script."""
    for name in split_foreign_metrics(names)[1]:
        evaluate_library.find_metric_script(name)


def load_metric_scripts(names: Sequence[str]) -> None:
    """Load the named metrics of the evaluate library, so that errors are reported before the slow part.

    Raises NetworkError for a name that the Hub does not have, DataError for a script that fails.
    """
    for name in split_foreign_metrics(names)[1]:
        evaluate_library.load_evaluate_metric(name)


def split_foreign_metrics(names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split into the task's own metrics and those of the evaluate library."""
    return [name for name in names if not name.startswith(EVALUATE_PREFIX)], [
        name for name in names if name.startswith(EVALUATE_PREFIX)
    ]


def run_metric_on_rows(
    task: Task, name: str, references: Sequence[Any], predictions: Sequence[Prediction], order: Sequence[int]
) -> evaluate_library.EvaluateResult:
    """Run a metric of the evaluate library on the rows in this order."""
    return evaluate_library.run_evaluate_metric(
        name, [references[i] for i in order], [predictions[i].value for i in order], task.labels
    )


def order_by_content(references: Sequence[Any], *predictions: Sequence[Prediction]) -> list[int]:
    """Sort row indices by content, so that intervals do not depend on the order of the file."""
    keys = [repr(one) for one in zip(references, *predictions, strict=True)]
    return sorted(range(len(keys)), key=keys.__getitem__)
