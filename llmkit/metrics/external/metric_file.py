"""Metrics in a user's own file, named by its path: a function `(references, predictions) -> float`."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from functools import cache
from importlib import util
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from llmkit.errors import DataError, MissingInputError
from llmkit.metrics.plain import (
    CODE_ERRORS,
    PlainMetric,
    compare_plain_metric,
    format_code_error,
    get_plain_name,
    score_plain_metrics,
    silence_metric_output,
)
from llmkit.metrics.score import Score
from llmkit.runs.manifest import hash_file

USER_METRIC_MODULE_PREFIX = "llmkit_user_metric_"  # of the module name of a user's metric file


class MetricFile(NamedTuple):
    """A metric file as loaded: its path as given, its function and the sha256 of the file."""

    path: str
    function: PlainMetric
    digest: str


class MetricRows(NamedTuple):
    """A metric file, and the rows that it scores."""

    file: MetricFile
    references: Sequence[Any]
    predictions: Sequence[Any]


def load_metric_file(path: str) -> MetricFile:
    """Load the metric of a .py file: the function with the file's name, or its only public function. Runs the file.

    A changed file is loaded again. Raises MissingInputError for a missing file, DataError for a file that fails or has
    no such function.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise MissingInputError(f"{path}: no metric file", "name a .py file that defines the metric's function")
    return load_cached_file(path, str(file.resolve()), hash_file(file))


@cache
def load_cached_file(path: str, location: str, digest: str) -> MetricFile:
    """As `load_metric_file`, cached by path and content."""
    return MetricFile(path, find_metric_function(import_metric_file(path, location), path), digest)


def import_metric_file(path: str, location: str) -> ModuleType:
    """Import the file at `location` as a module; errors name its `path` as given."""
    name = f"{USER_METRIC_MODULE_PREFIX}{Path(location).stem}"
    spec = util.spec_from_file_location(name, location)
    assert spec is not None
    module = util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses read annotations through the module
    try:
        # Not through the loader: its bytecode cache misses a change of equal size within a second.
        with silence_metric_output():
            exec(compile(Path(location).read_bytes(), location, "exec"), module.__dict__)
    except CODE_ERRORS as error:
        del sys.modules[name]
        raise DataError(f"{path}: {format_code_error(error)}", "fix the file") from error
    return module


def find_metric_function(module: ModuleType, path: str) -> PlainMetric:
    """Find the function with the file's name, or the only public function that the file defines."""
    functions = {
        name: function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and function.__name__ == name
    }
    stem = Path(path).stem
    if stem not in functions and len(functions) != 1:
        what = f"{path}: defines {len(functions) or 'no'} functions"
        raise DataError(what, f"define `def {stem}(references, predictions)` there")
    function = functions.get(stem) or next(iter(functions.values()))
    check_parameters(function, path)
    return function


def check_parameters(function: PlainMetric, path: str) -> None:
    """Raise DataError unless the function takes two positional arguments, references first."""
    signature = inspect.signature(function)
    try:
        signature.bind([], [])
        is_callable = list(signature.parameters)[:2] != ["predictions", "references"]
    except TypeError:
        is_callable = False
    if not is_callable:
        name = get_plain_name(function)
        what = f"{path}: {name}{signature} does not take references and predictions"
        raise DataError(what, f"write `def {name}(references, predictions)`")


def read_metric_rows(
    name: str,
    references: Sequence[Any],
    predictions: Sequence[Any],
    labels: Sequence[str],  # noqa: ARG001
) -> MetricRows:
    """Return the metric file `name` with the rows to score; nothing is computed yet."""
    return MetricRows(load_metric_file(name), references, predictions)


def score_metric_file(rows: MetricRows, intervals: bool = True) -> dict[str, Score]:
    """Return the score of the rows by the function's name; see `score_plain_metrics`."""
    file = rows.file
    return score_plain_metrics([file.function], rows.references, rows.predictions,
                               digests=[file.digest], origin=file.path, intervals=intervals)  # fmt: skip


def compare_metric_file(first: MetricRows, second: MetricRows) -> dict[str, tuple[float, float, float]]:
    """Return value, low and high of `second - first` by the function's name, on the same rows."""
    function = first.file.function
    by_name = compare_plain_metric(function, first.references, first.predictions, second.predictions)
    return {get_plain_name(function): by_name}


def name_file_score(name: str) -> str:
    """Return the name of the score of a metric file: its function's name."""
    return get_plain_name(load_metric_file(name).function)
