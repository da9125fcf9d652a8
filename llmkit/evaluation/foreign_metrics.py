"""Metrics that run foreign code, by the kind of their name: the evaluate library's, and a user's metric files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from llmkit.errors import UsageError
from llmkit.metrics import Score
from llmkit.metrics.external import evaluate_library, metric_file
from llmkit.metrics.plain import get_plain_name, is_lower_better
from llmkit.recipe.metric_names import get_metric_kind, list_metric_files, split_foreign_metrics
from llmkit.tasks.base import Prediction, Task


class ForeignMetrics(NamedTuple):
    """The functions of a kind of foreign metric. `run` gives what `score` and `compare` take."""

    check: Callable[[str], Any]  # raises MissingInputError without reading rows or models
    load: Callable[[str], Any]
    name: Callable[[str], str]  # of the first score
    run: Callable[[str, Sequence[Any], Sequence[Any], Sequence[str]], Any]
    score: Callable[[Any, bool], Mapping[str, Score]]
    compare: Callable[[Any, Any], Mapping[str, tuple[float, float, float]]]


FOREIGN_METRICS: dict[str, ForeignMetrics] = {
    "evaluate": ForeignMetrics(
        evaluate_library.find_metric_script,
        evaluate_library.load_evaluate_metric,
        str,
        evaluate_library.run_evaluate_metric,
        evaluate_library.score_evaluate_metric,
        evaluate_library.compare_evaluate_metric,
    ),
    "file": ForeignMetrics(
        metric_file.load_metric_file,
        metric_file.load_metric_file,
        metric_file.name_file_score,
        metric_file.read_metric_rows,
        metric_file.score_metric_file,
        metric_file.compare_metric_file,
    ),
}


def get_foreign_metrics(name: str) -> ForeignMetrics:
    """Return the functions for a metric that runs foreign code."""
    return FOREIGN_METRICS[get_metric_kind(name)]


def check_metric_scripts(names: Sequence[str], task: Task | None = None) -> None:
    """Raise MissingInputError for a missing script or file, and the errors of `load_metric_file`.

    With a task UsageError for a metric file whose function has the name of another metric.
    """
    for name in split_foreign_metrics(names)[1]:
        get_foreign_metrics(name).check(name)
    files = {name: metric_file.name_file_score(name) for name in list_metric_files(names)}
    times = Counter(files.values())
    for name, score in files.items():
        if times[score] > 1 or (task is not None and score in task.known_metrics):
            what = f"{name}: another metric has the name {score} too"
            raise UsageError(what, "rename the function, and the file if it has the same name")


def load_metric_scripts(names: Sequence[str]) -> None:
    """Load the metrics that run foreign code, so that errors are reported before the slow part.

    Raises NetworkError for a name that the Hub does not have, DataError for a script that fails.
    """
    for name in split_foreign_metrics(names)[1]:
        get_foreign_metrics(name).load(name)


def run_metric_on_rows(
    task: Task, name: str, references: Sequence[Any], predictions: Sequence[Prediction], order: Sequence[int]
) -> Any:
    """Run a metric of foreign code on the rows in this order."""
    return get_foreign_metrics(name).run(
        name, [references[i] for i in order], [predictions[i].value for i in order], task.labels
    )


def get_score_name(name: str) -> str:
    """Return the name of the metric's score, which of a metric file is its function's name."""
    return name if get_metric_kind(name) == "own" else get_foreign_metrics(name).name(name)


def list_lower_is_better(task: Task, names: Sequence[str]) -> list[str]:
    """Return the scores where a lower value is better: the task's own, and those of metric files."""
    functions = [metric_file.load_metric_file(name).function for name in list_metric_files(names)]
    return [*task.lower_is_better, *(get_plain_name(one) for one in functions if is_lower_better(one))]
