"""Models side by side: each scored on the same rows, and what the rows tell of the difference."""

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
from llmkit.evaluation.score_report import Report
from llmkit.evaluation.scoring import order_by_content, run_metric_on_rows, split_foreign_metrics
from llmkit.metrics.external import evaluate_library
from llmkit.metrics.paired import bootstrap_difference
from llmkit.models.sources.model_ref import resolve_model

UNSAFE_FOLDER_CHARACTERS = re.compile(r"[^A-Za-z0-9._-]+")


class Difference(NamedTuple):
    """How much more a model scores than the first, with the paired 95 % interval; NaN where undefined."""

    value: float
    low: float
    high: float

    def as_dict(self) -> dict[str, float | None]:
        """As JSON has it."""
        return {key: None if math.isnan(part) else part for key, part in self._asdict().items()}


UNDEFINED_DIFFERENCE = Difference(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Comparison:
    """Reports on the same rows, a model each, and the differences of all further models from the first."""

    models: Sequence[str]
    reports: Sequence[Report]
    differences: Sequence[Mapping[str, Difference]]

    def as_dict(self) -> dict[str, Any]:
        """As `--json` prints it."""
        differences = [
            {"model": model, "against": self.models[0], "metrics": {name: one.as_dict() for name, one in by.items()}}
            for model, by in zip(self.models[1:], self.differences, strict=True)
        ]
        return {"models": [report.as_dict() for report in self.reports], "differences": differences}


def compare(models: Sequence[str], data: Any = None, *, output_dir: str | None = None, **words: Any) -> dict[str, Any]:
    """Two models or more on the same rows: {"models": [what `evaluate` returns ...], "differences": [...]}.

    Each difference holds `model`, `against` (the first model) and, by metric, value, low and high of `model - against`.
    The rows are `data`, else the first run's own; `words` are those of `evaluate`; `output_dir` gets a folder a model.
    Raises ModelError for models that answer other questions, DataError where they do not read the same rows.
    """
    return compare_models(
        [os.fspath(model) for model in models], EvaluationRequest(data, **words), output_dir
    ).as_dict()


def compare_models(models: Sequence[str], asked: EvaluationRequest, output_dir: str | None = None) -> Comparison:
    """The work of `compare`."""
    if len(models) < 2:
        raise UsageError(f"{pluralize(len(models), 'model')} to compare", "name two or more")
    asked.check()
    check_distinct_models(models)
    target = check_output_folder(output_dir)
    with console.print_messages_once():
        every = evaluate_on_same_rows(models, asked)
    first = every[0]
    if target is not None:
        for judged, name in zip(every, make_folder_names(models), strict=True):
            write_evaluation(judged, target / name)
    return Comparison(models, [one.report for one in every], [compute_differences(first, one) for one in every[1:]])


def check_distinct_models(models: Sequence[str]) -> None:
    """Raise UsageError where a model is named twice, and what `resolve` raises for one that is not there."""
    known: dict[tuple[str, str | None], str] = {}
    for model in models:
        found = resolve_model(model)
        # A run and the plain model in it are two: one is read by its recipe.
        place = (str(Path(model).expanduser().resolve()) if found.folder else found.id, found.revision)
        if place in known:
            also = "" if known[place] == model else f" (as {known[place]} too)"
            raise UsageError(f"{model}: named twice{also}", "name each model once")
        known[place] = model


def evaluate_on_same_rows(models: Sequence[str], asked: EvaluationRequest) -> list[Evaluated]:
    """Each model's answers to the same rows, judged."""
    first = evaluate_model(models[0], asked)
    if asked.data is None:
        console.print_message(f"all are scored on the {first.report.split} rows of {models[0]}: what another run has learned "
                     "from them would flatter it; --data names other rows")  # fmt: skip
    every = [first]
    for model in models[1:]:
        every.append(evaluate_model(model, asked, first))
        check_same_rows(first, every[-1])
    return every


def check_same_rows(first: Evaluated, other: Evaluated) -> None:
    """Raise DataError where two models have not read the same rows with the same references."""
    if locate_rows(first.rows) != locate_rows(other.rows):
        what = f"{other.model} reads {pluralize(len(other.rows), 'row')} of {other.rows.name}, and {first.model} "
        raise DataError(f"{what}{len(first.rows):,}", "say how the file is read for all: data.on_empty=error")
    for row, (mine, yours) in enumerate(zip(first.references, other.references, strict=True)):
        if mine != yours:
            what = (
                f"{first.rows.location(row)}: {other.model} reads the reference {yours!r}, and {first.model} {mine!r}"
            )
            raise DataError(what, "name the column for all with --label")


def locate_rows(rows: Rows) -> tuple[list[str], list[int]]:
    """Where each row stands."""
    return [rows.files[i] for i in rows.file_index], rows.lines.tolist()


def compute_differences(first: Evaluated, other: Evaluated) -> dict[str, Difference]:
    """Value and paired interval of `other - first` for each metric."""
    own, foreign = split_foreign_metrics(first.metric_names)
    order = order_by_content(first.references, first.predictions, other.predictions)
    references = [first.references[i] for i in order]
    found: dict[str, Difference] = {}
    if own:
        one, two = (
            side.task.statistic(own, references, [side.predictions[i] for i in order]) for side in (first, other)
        )
        numbers = bootstrap_difference(one, two, len(order)).tolist()
        found = {name: Difference(*three) for name, three in zip(own, numbers, strict=True)}
    for name in foreign:
        sides = (
            run_metric_on_rows(side.task, name, side.references, side.predictions, order) for side in (first, other)
        )
        found |= {key: Difference(*three) for key, three in evaluate_library.compare_evaluate_metric(*sides).items()}
    return {name: found.get(name, UNDEFINED_DIFFERENCE) for name in first.report.metrics}


def make_folder_names(models: Sequence[str]) -> list[str]:
    """A folder's name for each model, each another one: what is no letter, digit, dot, dash or underscore is a dash."""
    names: list[str] = []
    for model in models:
        safe = UNSAFE_FOLDER_CHARACTERS.sub("-", model).strip("-.") or "model"
        number = 2
        name = safe
        while name in names:
            name, number = f"{safe}-{number}", number + 1
        names.append(name)
    return names
