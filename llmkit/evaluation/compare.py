"""Comparison of models: scores on the same rows, with paired intervals of their differences."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from llmkit import console
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import Rows
from llmkit.errors import DataError, UsageError
from llmkit.evaluation.evaluate import (
    Evaluated,
    EvaluationRequest,
    check_output_folder,
    evaluate_model,
    write_evaluation,
)
from llmkit.evaluation.foreign_metrics import get_foreign_metrics, run_metric_on_rows
from llmkit.evaluation.score_report import Report
from llmkit.evaluation.scoring import order_by_content
from llmkit.metrics.paired import bootstrap_difference
from llmkit.models.sources.model_ref import resolve_model
from llmkit.recipe.metric_names import split_foreign_metrics

UNSAFE_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


class Difference(NamedTuple):
    """Score of a model minus that of the first, with the paired 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """Return the difference as JSON: None for NaN."""
        return {key: None if math.isnan(part) else part for key, part in self._asdict().items()}


UNDEFINED_DIFFERENCE = Difference(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Comparison:
    """One report per model on the same rows, and the differences of all other models from the first."""

    models: Sequence[str]
    reports: Sequence[Report]
    differences: Sequence[Mapping[str, Difference]]

    def as_dict(self) -> dict[str, Any]:
        """Return the comparison as `--json` prints it."""
        differences = [
            {"model": model, "against": self.models[0], "metrics": {name: one.as_dict() for name, one in by.items()}}
            for model, by in zip(self.models[1:], self.differences, strict=True)
        ]
        return {"models": [report.as_dict() for report in self.reports], "differences": differences}


def compare(
    models: Sequence[str], data: Any = None, *, output_dir: str | None = None, **options: Any
) -> dict[str, Any]:
    """Compare two or more models on the same rows: {"models": [reports of `evaluate`], "differences": [...]}.

    Each difference has `model`, `against` (the first model) and, by metric, value, low and high of `model - against`.
    The rows are `data`, or the first run's own by default; `options` are those of `evaluate`; `output_dir` gets one
    folder per model. Raises ModelError for models of different problems, DataError if they do not read the same rows.
    """
    return compare_models(
        [os.fspath(model) for model in models], EvaluationRequest(data, **options), output_dir
    ).as_dict()


def compare_models(models: Sequence[str], request: EvaluationRequest, output_dir: str | None = None) -> Comparison:
    """Implement `compare`: evaluate all models and compute their differences."""
    if len(models) < 2:
        raise UsageError(f"{pluralize(len(models), 'model')} to compare", "name two or more")
    request.check()
    check_distinct_models(models)
    target = check_output_folder(output_dir)
    with console.print_messages_once():
        evaluations = evaluate_on_same_rows(models, request)
    first = evaluations[0]
    if target is not None:
        for evaluated, name in zip(evaluations, make_folder_names(models), strict=True):
            write_evaluation(evaluated, target / name)
    return Comparison(
        models, [one.report for one in evaluations], [compute_differences(first, one) for one in evaluations[1:]]
    )


def check_distinct_models(models: Sequence[str]) -> None:
    """Raise UsageError if a model is named twice, and the errors of `resolve_model` for a missing model."""
    known: dict[tuple[str, str | None], str] = {}
    for model in models:
        ref = resolve_model(model)
        # A run and its model folder are different models: only the run is read by its recipe.
        location = (str(Path(model).expanduser().resolve()) if ref.folder else ref.id, ref.revision)
        if location in known:
            also = "" if known[location] == model else f" (as {known[location]} too)"
            raise UsageError(f"{model}: named twice{also}", "name each model once")
        known[location] = model


def evaluate_on_same_rows(models: Sequence[str], request: EvaluationRequest) -> list[Evaluated]:
    """Evaluate each model on the same rows."""
    first = evaluate_model(models[0], request)
    if request.data is None:
        console.print_message(
            f"all are scored on the {first.report.split} rows of {models[0]}; a run that was trained on some of them "
            "gets too high scores; use other rows with --data"
        )
    evaluations = [first]
    for model in models[1:]:
        evaluations.append(evaluate_model(model, request, first))
        check_same_rows(first, evaluations[-1])
    return evaluations


def check_same_rows(first: Evaluated, other: Evaluated) -> None:
    """Raise DataError unless both models have read the same rows with the same references."""
    if locate_rows(first.rows) != locate_rows(other.rows):
        what = f"{other.model} reads {pluralize(len(other.rows), 'row')} of {other.rows.name}, and {first.model} "
        raise DataError(
            f"{what}{len(first.rows):,}", "set how the file is read for all models, for example data.on_empty=error"
        )
    for row, (mine, yours) in enumerate(zip(first.references, other.references, strict=True)):
        if mine != yours:
            what = (
                f"{first.rows.location(row)}: {other.model} reads the reference {yours!r}, and {first.model} {mine!r}"
            )
            raise DataError(what, "name the column for all models with --label")


def locate_rows(rows: Rows) -> tuple[list[str], list[int]]:
    """Return the file of each row, and its line."""
    return [rows.files[i] for i in rows.file_index], rows.lines.tolist()


def compute_differences(first: Evaluated, other: Evaluated) -> dict[str, Difference]:
    """Return value and paired interval of `other - first` for each metric."""
    own, foreign = split_foreign_metrics(first.metric_names)
    order = order_by_content(first.references, first.predictions, other.predictions)
    references = [first.references[i] for i in order]
    differences: dict[str, Difference] = {}
    if own:
        one, two = (
            side.task.statistic(own, references, [side.predictions[i] for i in order]) for side in (first, other)
        )
        numbers = bootstrap_difference(one, two, len(order)).tolist()
        differences = {name: Difference(*three) for name, three in zip(own, numbers, strict=True)}
    for name in foreign:
        sides = (
            run_metric_on_rows(side.task, name, side.references, side.predictions, order) for side in (first, other)
        )
        differences |= {key: Difference(*three) for key, three in get_foreign_metrics(name).compare(*sides).items()}
    return {name: differences.get(name, UNDEFINED_DIFFERENCE) for name in first.report.metrics}


def make_folder_names(models: Sequence[str]) -> list[str]:
    """Return a unique folder name per model; other characters than letters, digits, dots, _ and - become a dash."""
    names: list[str] = []
    for model in models:
        safe = UNSAFE_FOLDER_CHARACTERS.sub("-", model).strip("-.") or "model"
        number = 2
        name = safe
        while name in names:
            name, number = f"{safe}-{number}", number + 1
        names.append(name)
    return names
