"""Metrics of the evaluate library, named `evaluate:NAME` or `evaluate:./path/to/metric`: code that the user opts in to.

Each is a Python script, from the Hub or a folder. Its own features say what it takes; what it gives is read as numbers.
What else it wants to know stands behind a question mark: `evaluate:bertscore?lang=en&rescale_with_baseline=true`.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmkit.errors import DataError, LlmkitError, MissingInputError, NetworkError, UsageError
from llmkit.metrics.external.inputs import convert_inputs
from llmkit.metrics.intervals import RESAMPLES, Floats, Statistic, bootstrap_intervals
from llmkit.metrics.paired import bootstrap_difference
from llmkit.metrics.rows import make_mean_statistic, stack_statistics
from llmkit.metrics.score import Score
from llmkit.runs.manifest import hash_file

SCRIPT_ERRORS = (Exception, SystemExit)  # what a script may raise; only Ctrl-C is not its own
SLOW_RESAMPLES = (
    200  # resamples of what must be computed anew each time: 3 ms each on 1,000 rows for the cheapest of metrics
)
LOCAL_PREFIXES = (".", "/", "~")  # what begins a path; any other name is the Hub's unless a folder here has it


class EvaluateResult(NamedTuple):
    """What a metric says of some answers, by score name: one number a row, or a number for all rows at once."""

    n: int
    by_row: Mapping[str, Floats]
    totals: Mapping[str, float]
    recompute: Statistic  # from counts [B, n] of the rows to the values [B, M] of `whole`
    digest: str  # sha256 of the metric's script


def find_metric_script(name: str) -> Path | None:
    """The local script that `evaluate:NAME` means, None for a name on the Hub. Raises MissingInputError for no such."""
    given = parse_metric_location(name)
    path = Path(given).expanduser()
    file = path if path.suffix == ".py" else path / f"{path.name}.py"
    if file.is_file():
        return file
    if not given or given.startswith(LOCAL_PREFIXES) or path.suffix == ".py":
        raise MissingInputError(
            f"{name}: no metric script '{file}'", "name a .py file, or a folder with one of its name"
        )
    return None


def parse_metric_location(name: str) -> str:
    """The script that `evaluate:NAME?...` means: its name on the Hub or its path."""
    return name.partition(":")[2].partition("?")[0]


def parse_metric_arguments(name: str) -> dict[str, Any]:
    """What stands behind the question mark: numbers, true and false as JSON has them, all else as text."""
    found: dict[str, Any] = {}
    for pair in filter(None, name.partition("?")[2].split("&")):
        key, sign, value = pair.partition("=")
        if not sign or not key.isidentifier():
            raise UsageError(
                f"{name}: '{pair}' is no KEY=VALUE", f"write evaluate:{parse_metric_location(name)}?KEY=VALUE&KEY=VALUE"
            )
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found


def run_evaluate_metric(
    name: str, references: Sequence[Any], answers: Sequence[Any], labels: Sequence[str]
) -> EvaluateResult:
    """What the metric `evaluate:NAME` says of `answers` (labels, lists of labels, numbers or texts).

    Beside texts, a reference may be a list of them.

    Runs the metric's script. Raises NetworkError for a name that the Hub does not give, MissingInputError for a missing
    path, DataError where the metric takes other things than these answers, fails, or gives no number.
    """
    module, digest = load_evaluate_metric(name)
    more = parse_metric_arguments(name)
    true, said = (
        np.array([*column, None], dtype=object)[:-1]
        for column in convert_inputs(name, module, references, answers, labels)
    )

    def numbers(rows: Any) -> dict[str, float | Floats]:
        with silence_metric_output():
            given = module.compute(predictions=said[rows].tolist(), references=true[rows].tolist(), **more)
        return name_metric_numbers(name, given, len(rows))

    n = len(true)
    try:
        found = numbers(np.arange(n))
    except SCRIPT_ERRORS as fault:
        raise make_metric_error(name, fault) from fault
    if not found:
        raise DataError(f"{name}: gives no number", "name a metric that does")
    whole = {key: value for key, value in found.items() if isinstance(value, float)}

    def again(counts: Floats) -> Floats:
        values = np.full((len(counts), len(whole)), np.nan)
        for b, count in enumerate(counts.astype(np.int64)):
            try:
                drawn = numbers(np.repeat(np.arange(n), count))
            except SCRIPT_ERRORS:  # undefined on these rows, as the metric sees it
                continue
            values[b] = [drawn.get(key, np.nan) for key in whole]
        return values

    by_row = {key: value for key, value in found.items() if not isinstance(value, float)}
    return EvaluateResult(n, by_row, whole, again, digest)


def score_evaluate_metric(measured: EvaluateResult, intervals: bool = True) -> dict[str, Score]:
    """The scores by name. One number a row: the mean with its BCa interval; else a percentile bootstrap of `FEW`,
    whose signature says how many resamples left the metric undefined.

    Without `intervals` low and high are NaN, and nothing is computed again.
    """
    n, found = measured.n, {}
    for name, numbers in measured.by_row.items():
        bounds = (
            bootstrap_intervals(stack_statistics([make_mean_statistic(numbers)]), np.ones(n, np.int64))[0]
            if intervals
            else (np.nan,) * 2
        )
        found[name] = make_evaluate_score(name, float(numbers.mean()), bounds, f"bca,{RESAMPLES}", measured.digest)
    if measured.totals:
        unknown = np.full((len(measured.totals), 2), np.nan), [0] * len(measured.totals)
        bounds, lost = bootstrap_slow_statistic(measured.recompute, n) if intervals else unknown
        for (name, value), pair, times in zip(measured.totals.items(), bounds, lost, strict=True):
            undefined = f",undefined:{times}" if times else ""
            found[name] = make_evaluate_score(
                name, value, pair, f"percentile,{SLOW_RESAMPLES}{undefined}", measured.digest
            )
    return found


def compare_evaluate_metric(first: EvaluateResult, second: EvaluateResult) -> dict[str, tuple[float, float, float]]:
    """Value, low and high of `second - first` by score name: paired, over the same resamples of the same rows."""
    n, found = first.n, {}
    for name in first.by_row.keys() & second.by_row.keys():
        one, other = (stack_statistics([make_mean_statistic(some.by_row[name])]) for some in (first, second))
        found[name] = tuple(bootstrap_difference(one, other, n)[0].tolist())
    if first.totals and first.totals.keys() == second.totals.keys():
        order = [list(second.totals).index(name) for name in first.totals]
        bounds, _ = bootstrap_slow_statistic(
            lambda counts: second.recompute(counts)[:, order] - first.recompute(counts), n
        )
        for (name, value), (low, high) in zip(first.totals.items(), bounds.tolist(), strict=True):
            found[name] = (second.totals[name] - value, low, high)
    return found


def bootstrap_slow_statistic(statistic: Statistic, n: int) -> tuple[Floats, list[int]]:
    """The percentile intervals [M, 2] of a statistic that is slow, and how many resamples left each undefined."""
    lost: list[Floats] = []

    def watched(counts: Floats) -> Floats:
        values = statistic(counts)
        lost.append(np.isnan(values).sum(axis=0))
        return values

    bounds = bootstrap_intervals(watched, np.ones(n, np.int64), resamples=SLOW_RESAMPLES, method="percentile")
    return bounds, np.sum(lost, axis=0).tolist()


def make_evaluate_score(name: str, value: float, bounds: Sequence[float], interval: str, digest: str) -> Score:
    """One number with its interval, and the signature of what computed it."""
    from importlib.metadata import version

    signature = [name, f"sha256:{digest[:12]}", f"interval:{interval},seed=0", f"evaluate {version('evaluate')}"]
    low, high = (float(bound) for bound in bounds)
    return Score(value, min(low, value), max(high, value), "|".join(signature))


def load_evaluate_metric(name: str) -> tuple[Any, str]:
    """The metric's module and the sha256 of its code. A script that has changed is loaded again."""
    parse_metric_arguments(name)  # a slip in it is said before the long work
    file = find_metric_script(name)
    if file is None:
        return load_cached_metric(name, parse_metric_location(name))
    return load_cached_metric(name, str(file.resolve()), hash_file(file))


@cache
def load_cached_metric(name: str, where: str, _: str | None = None) -> tuple[Any, str]:
    """As `load`, once for each name, place and content."""
    with silence_metric_output():
        import evaluate
        from huggingface_hub import constants

        was_offline, evaluate.config.HF_EVALUATE_OFFLINE = evaluate.config.HF_EVALUATE_OFFLINE, constants.HF_HUB_OFFLINE
        try:
            module = evaluate.load(where, keep_in_memory=True, seed=0)
        except SCRIPT_ERRORS as fault:  # the script may raise anything, and so may a Hub client
            raise (make_metric_error if Path(where).is_absolute() else make_hub_metric_error)(name, fault) from fault
        finally:
            evaluate.config.HF_EVALUATE_OFFLINE = was_offline
    # The library has copied the script, and beside it what it imports from its own folder.
    home = Path(inspect.getfile(type(module))).parent
    code = b"".join(file.read_bytes() for file in sorted(home.rglob("*.py")) if file.name != "__init__.py")
    return module, hashlib.sha256(code).hexdigest()


def make_hub_metric_error(name: str, fault: BaseException) -> LlmkitError:
    """What to say where the Hub gave no metric."""
    if not isinstance(fault, OSError):
        return make_metric_error(name, fault)
    given = parse_metric_location(name)
    why = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    local = f"evaluate:./{given.rpartition('/')[2]}"
    return NetworkError(
        f"{name}: the Hub gave no such metric{why}", f"a copy of its folder here works offline: {local}"
    )


def make_metric_error(name: str, fault: BaseException) -> LlmkitError:
    """A metric's own words on what went wrong in it."""
    if isinstance(fault, LlmkitError):
        return fault
    said = " ".join(f"{type(fault).__name__}: {fault}".split()).removesuffix(":")
    return DataError(f"{name}: {said}", "mend the metric, or leave it out")


@contextmanager
def silence_metric_output() -> Iterator[None]:
    """Keep what foreign code prints out of stdout, which holds results, and its warnings out of sight."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def name_metric_numbers(name: str, given: Any, n: int) -> dict[str, float | Floats]:
    """The numbers, and the lists of one number a row, in a metric's result, by score name; all else is left out."""
    own = Path(parse_metric_location(name)).stem
    found = {str(key): number for key, value in dict(given).items() if (number := coerce_numbers(value, n)) is not None}
    return {name if key == own or len(found) == 1 else f"{name}.{key}": number for key, number in found.items()}


def coerce_numbers(value: Any, n: int) -> float | Floats | None:
    """`value` as a number or as one number a row, None where it is neither."""
    try:
        numbers = np.asarray(value)
    except ValueError:  # lists of unequal length
        return None
    if numbers.dtype.kind not in "iuf" or numbers.shape not in ((), (n,)):
        return None
    return numbers.astype(np.float64) if numbers.shape else float(numbers)
