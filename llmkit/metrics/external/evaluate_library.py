"""Metrics of the evaluate library, named `evaluate:NAME` or `evaluate:./path/to/metric`: code that the user opts in to.

Each is a Python script, from the Hub or a local folder. Its features define its inputs; its results are read as
numbers. Arguments follow a question mark: `evaluate:bertscore?lang=en&rescale_with_baseline=true`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmkit.errors import DataError, LlmkitError, MissingInputError, NetworkError, UsageError
from llmkit.metrics.external.inputs import convert_inputs
from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic, bootstrap_intervals
from llmkit.metrics.paired import bootstrap_difference
from llmkit.metrics.plain import CODE_ERRORS, format_code_error, silence_metric_output
from llmkit.metrics.rows import make_mean_statistic, stack_statistics
from llmkit.metrics.score import Score
from llmkit.runs.manifest import hash_file

SLOW_RESAMPLES = 200  # resamples of a metric that must be recomputed for each: at least 3 ms each on 1,000 rows
LOCAL_PREFIXES = (".", "/", "~")  # prefixes of a path; any other name is on the Hub unless a local folder has it


class EvaluateResult(NamedTuple):
    """Result of a metric, by score name: one number per row (`by_row`) or one number for all rows (`totals`)."""

    n: int
    by_row: Mapping[str, Floats]
    totals: Mapping[str, float]
    recompute: Statistic  # from counts [B, n] of the rows to the values [B, M] of `totals`
    digest: str  # sha256 of the metric's script


def find_metric_script(name: str) -> Path | None:
    """Return the local script of `evaluate:NAME`, None for a name on the Hub; raises MissingInputError if missing."""
    location = parse_metric_location(name)
    path = Path(location).expanduser()
    file = path if path.suffix == ".py" else path / f"{path.name}.py"
    if file.is_file():
        return file
    if not location or location.startswith(LOCAL_PREFIXES) or path.suffix == ".py":
        raise MissingInputError(
            f"{name}: no metric script '{file}'",
            "use a .py file, or a folder that contains a .py file of the same name",
        )
    return None


def parse_metric_location(name: str) -> str:
    """Return the name on the Hub or the local path in `evaluate:NAME?...`."""
    return name.partition(":")[2].partition("?")[0]


def parse_metric_arguments(name: str) -> dict[str, Any]:
    """Parse the arguments after the question mark: JSON values where they parse as JSON, else text."""
    arguments: dict[str, Any] = {}
    for pair in filter(None, name.partition("?")[2].split("&")):
        key, sign, value = pair.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(
                f"{name}: '{pair}' is not KEY=VALUE",
                f"write evaluate:{parse_metric_location(name)}?KEY=VALUE&KEY=VALUE",
            )
        try:
            arguments[key] = json.loads(value)
        except ValueError:
            arguments[key] = value
    return arguments


def run_evaluate_metric(
    name: str, references: Sequence[Any], predictions: Sequence[Any], labels: Sequence[str]
) -> EvaluateResult:
    """Run the metric `evaluate:NAME` on `predictions` (labels, lists of labels, numbers or texts).

    For text predictions a reference may also be a list of texts.

    Executes the metric's script. Raises NetworkError for a name that the Hub does not have, MissingInputError for a
    missing path, DataError if the metric needs other inputs, fails, or returns no number.
    """
    module, digest = load_evaluate_metric(name)
    arguments = parse_metric_arguments(name)
    true, predicted = (
        np.array([*column, None], dtype=object)[:-1]
        for column in convert_inputs(name, module, references, predictions, labels)
    )

    def compute(rows: Any) -> dict[str, float | Floats]:
        with silence_metric_output():
            result = module.compute(predictions=predicted[rows].tolist(), references=true[rows].tolist(), **arguments)
        return name_metric_numbers(name, result, len(rows))

    n = len(true)
    try:
        numbers = compute(np.arange(n))
    except CODE_ERRORS as error:
        raise make_metric_error(name, error) from error
    if not numbers:
        raise DataError(f"{name}: returns no number", "use a metric that returns numbers")
    totals = {key: value for key, value in numbers.items() if isinstance(value, float)}

    def recompute(counts: Floats) -> Floats:
        values = np.full((len(counts), len(totals)), np.nan)
        for b, count in enumerate(counts.astype(np.int64)):
            try:
                drawn = compute(np.repeat(np.arange(n), count))
            except CODE_ERRORS:  # the metric is undefined on these rows
                continue
            values[b] = [drawn.get(key, np.nan) for key in totals]
        return values

    by_row = {key: value for key, value in numbers.items() if not isinstance(value, float)}
    return EvaluateResult(n, by_row, totals, recompute, digest)


def score_evaluate_metric(result: EvaluateResult, intervals: bool = True) -> dict[str, Score]:
    """Return the scores of a result by name.

    One number per row: the mean with its BCa interval. Otherwise: a percentile bootstrap of `SLOW_RESAMPLES`; its
    signature has the number of resamples on which the metric was undefined.
    Without `intervals` low and high are NaN, and nothing is recomputed.
    """
    n, scores = result.n, {}
    for name, numbers in result.by_row.items():
        bounds = (
            bootstrap_intervals(stack_statistics([make_mean_statistic(numbers)]), np.ones(n, np.int64))[0]
            if intervals
            else (np.nan,) * 2
        )
        scores[name] = make_evaluate_score(name, float(numbers.mean()), bounds, f"bca,{RESAMPLES}", result.digest)
    if result.totals:
        unknown = np.full((len(result.totals), 2), np.nan), [0] * len(result.totals)
        bounds, lost = bootstrap_slow_statistic(result.recompute, n) if intervals else unknown
        for (name, value), pair, times in zip(result.totals.items(), bounds, lost, strict=True):
            undefined = f",undefined:{times}" if times else ""
            scores[name] = make_evaluate_score(
                name, value, pair, f"percentile,{SLOW_RESAMPLES}{undefined}", result.digest
            )
    return scores


def compare_evaluate_metric(first: EvaluateResult, second: EvaluateResult) -> dict[str, tuple[float, float, float]]:
    """Return value, low and high of `second - first` by score name, paired over the same resamples of the rows."""
    n, differences = first.n, {}
    for name in first.by_row.keys() & second.by_row.keys():
        one, other = (stack_statistics([make_mean_statistic(result.by_row[name])]) for result in (first, second))
        differences[name] = tuple(bootstrap_difference(one, other, n)[0].tolist())
    if first.totals and first.totals.keys() == second.totals.keys():
        order = [list(second.totals).index(name) for name in first.totals]
        bounds, _ = bootstrap_slow_statistic(
            lambda counts: second.recompute(counts)[:, order] - first.recompute(counts), n
        )
        for (name, value), (low, high) in zip(first.totals.items(), bounds.tolist(), strict=True):
            differences[name] = (second.totals[name] - value, low, high)
    return differences


def bootstrap_slow_statistic(statistic: Statistic, n: int) -> tuple[Floats, list[int]]:
    """Return percentile intervals [M, 2] of a slow statistic, and the number of undefined resamples of each."""
    lost: list[Floats] = []

    def count_undefined(counts: Floats) -> Floats:
        values = statistic(counts)
        lost.append(np.isnan(values).sum(axis=0))
        return values

    bounds = bootstrap_intervals(count_undefined, np.ones(n, np.int64), resamples=SLOW_RESAMPLES, method="percentile")
    return bounds, np.sum(lost, axis=0).tolist()


def make_evaluate_score(name: str, value: float, bounds: Sequence[float], interval: str, digest: str) -> Score:
    """Return a score with its interval and signature."""
    from importlib.metadata import version

    signature = [name, f"sha256:{digest[:12]}", f"interval:{interval},seed=0", f"evaluate {version('evaluate')}"]
    low, high = (float(bound) for bound in bounds)
    return Score(value, min(low, value), max(high, value), "|".join(signature))


def load_evaluate_metric(name: str) -> tuple[Any, str]:
    """Load the metric; return its module and the sha256 of its code. A changed script is loaded again."""
    parse_metric_arguments(name)  # reports an error in them before the slow part
    file = find_metric_script(name)
    if file is None:
        return load_cached_metric(name, parse_metric_location(name))
    return load_cached_metric(name, str(file.resolve()), hash_file(file))


@cache
def load_cached_metric(name: str, location: str, _: str | None = None) -> tuple[Any, str]:
    """As `load_evaluate_metric`, cached by name, location and content."""
    with silence_metric_output():
        import evaluate
        from huggingface_hub import constants

        was_offline, evaluate.config.HF_EVALUATE_OFFLINE = evaluate.config.HF_EVALUATE_OFFLINE, constants.HF_HUB_OFFLINE
        try:
            module = evaluate.load(location, keep_in_memory=True, seed=0)
        except CODE_ERRORS as error:  # the script and the Hub client may raise anything
            raise (make_metric_error if Path(location).is_absolute() else make_hub_metric_error)(name, error) from error
        finally:
            evaluate.config.HF_EVALUATE_OFFLINE = was_offline
    # The library has copied the script together with the files that it imports from its folder.
    home = Path(inspect.getfile(type(module))).parent
    code = b"".join(file.read_bytes() for file in sorted(home.rglob("*.py")) if file.name != "__init__.py")
    return module, hashlib.sha256(code).hexdigest()


def make_hub_metric_error(name: str, error: BaseException) -> LlmkitError:
    """Return the error for a metric that the Hub does not have."""
    if not isinstance(error, OSError):
        return make_metric_error(name, error)
    location = parse_metric_location(name)
    why = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    local = f"evaluate:./{location.rpartition('/')[2]}"
    return NetworkError(
        f"{name}: the Hub has no such metric{why}", f"a local copy of its folder works offline: {local}"
    )


def make_metric_error(name: str, error: BaseException) -> LlmkitError:
    """Return the error for an exception of a metric, with its own message."""
    if isinstance(error, LlmkitError):
        return error
    return DataError(f"{name}: {format_code_error(error)}", "fix the metric, or leave it out")


def name_metric_numbers(name: str, result: Any, n: int) -> dict[str, float | Floats]:
    """Return the numbers, and the lists of one number per row, of a metric's result by score name; skip all others."""
    own = Path(parse_metric_location(name)).stem
    numbers = {
        str(key): number for key, value in dict(result).items() if (number := coerce_numbers(value, n)) is not None
    }
    return {name if key == own or len(numbers) == 1 else f"{name}.{key}": number for key, number in numbers.items()}


def coerce_numbers(value: Any, n: int) -> float | Floats | None:
    """Convert `value` to a number or to one number per row; None if it is neither."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of unequal length
        return None
    if numbers.dtype.kind not in "iuf" or numbers.shape not in ((), (n,)):
        return None
    return numbers.astype(np.float64) if numbers.shape else float(numbers)
