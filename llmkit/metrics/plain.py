"""Metrics that are plain functions of all references and predictions: value, interval, difference and signature.

`metric(references, predictions)` returns one number. Its attributes are optional: `lower_is_better` (default False) and
`resamples` (default 1000). The interval is BCa, as of most metrics here: for a metric of unknown bias and skew it has
the better coverage, at one call more per row (at most 1000). With fewer `resamples` than the default it is the
percentile interval, which needs no further calls: for slow functions. An interval without spread is the value alone.
"""

from __future__ import annotations

import hashlib
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from numbers import Real
from typing import Any

import numpy as np

from llmkit.errors import DataError
from llmkit.metrics.intervals import Floats, IntervalMethod, Statistic, bootstrap_intervals
from llmkit.metrics.paired import bootstrap_difference
from llmkit.metrics.score import Score
from llmkit.version import __version__

PlainMetric = Callable[[Sequence[Any], Sequence[Any]], float]

PLAIN_RESAMPLES = 1000
CODE_ERRORS = (Exception, SystemExit)  # all that a user's code may raise, except Ctrl-C


def make_plain_statistic(
    metrics: Sequence[PlainMetric], references: Sequence[Any], predictions: Sequence[Any]
) -> Statistic:
    """Return a function from row counts [B, n] to values [B, M]: each metric gets every row as often as it counts.

    NaN where a metric raises an error or returns no finite number, for example undefined in a resample.
    """
    true, predicted = pack_objects(references), pack_objects(predictions)

    def compute(counts: Floats) -> Floats:
        values = np.full((len(counts), len(metrics)), np.nan)
        with silence_metric_output():
            for b, count in enumerate(counts.astype(np.int64)):
                rows = np.repeat(np.arange(len(true)), count)
                for m, metric in enumerate(metrics):
                    try:
                        value = metric(true[rows].tolist(), predicted[rows].tolist())
                    except CODE_ERRORS:
                        continue
                    values[b, m] = math.nan if explain_bad_value(value) else float(value)
        return values

    return compute


def score_plain_metrics(
    metrics: Sequence[PlainMetric],
    references: Sequence[Any],
    predictions: Sequence[Any],
    *,
    digests: Sequence[str] = (),
    origin: str = "",
    intervals: bool = True,
) -> dict[str, Score]:
    """Return the score of each metric by the function's name; it does not depend on the order of the rows.

    `digests` are the sha256 of the functions' files, by default of their source code; `origin` names the file in
    errors. Without `intervals` low and high are NaN, and each function is called once. Raises DataError if a function
    fails on all rows or returns no number there.
    """
    true, predicted = sort_plain_rows(references, predictions)
    scores = {}
    for m, metric in enumerate(metrics):
        value = compute_plain_value(metric, true, predicted, origin)
        low = high = math.nan
        if intervals and not math.isnan(value):
            resamples, method = choose_plain_interval(metric, origin)
            statistic = make_plain_statistic([metric], true, predicted)
            ((low, high),) = bootstrap_intervals(
                statistic, np.ones(len(true), np.int64), resamples=resamples, method=method
            ).tolist()
        # Of a function that is not deterministic the second value on all rows may differ from the first.
        low, high = (low, high) if math.isnan(low) else (min(low, value), max(high, value))
        digest = digests[m] if digests else hash_source(metric)
        scores[get_plain_name(metric)] = Score(value, low, high, format_plain_signature(metric, digest, origin))
    return scores


def compare_plain_metric(
    metric: PlainMetric, references: Sequence[Any], first: Sequence[Any], second: Sequence[Any]
) -> tuple[float, float, float]:
    """Return value, low and high of `second - first`, paired over the same resamples of the rows."""
    keys = [repr(row) for row in zip(references, first, second, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    true, one, other = ([column[i] for i in order] for column in (references, first, second))
    resamples, method = choose_plain_interval(metric)
    before, after = (make_plain_statistic([metric], true, predicted) for predicted in (one, other))
    value, low, high = bootstrap_difference(before, after, len(true), resamples=resamples, method=method)[0].tolist()
    return value, low, high


def compute_plain_value(
    metric: PlainMetric, references: Sequence[Any], predictions: Sequence[Any], origin: str = ""
) -> float:
    """Call the metric on all rows. Raises DataError if it fails or returns no finite number; NaN means undefined."""
    try:
        with silence_metric_output():
            value = metric(list(references), list(predictions))
    except CODE_ERRORS as error:
        raise make_plain_error(metric, origin, format_code_error(error)) from error
    if why := explain_bad_value(value):
        raise make_plain_error(metric, origin, why)
    return float(value)


def explain_bad_value(value: Any) -> str:
    """Explain why a value is not one finite number or NaN; empty if it is."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return f"returns {type(value).__name__}, not one number"
    return f"returns {float(value)}" if math.isinf(value) else ""


def make_plain_error(metric: PlainMetric, origin: str, what: str) -> DataError:
    """Return the error on a plain function: the file, if known, and the function's name."""
    return DataError(": ".join(filter(None, [origin, get_plain_name(metric), what])), "fix the function")


def format_code_error(error: BaseException) -> str:
    """Format type and text of an exception of a user's code on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")


def get_plain_name(metric: PlainMetric) -> str:
    """Return the name of the metric's scores: the function's name."""
    return str(getattr(metric, "__name__", type(metric).__name__))


def is_lower_better(metric: PlainMetric) -> bool:
    """Return whether a lower value is better, the function's attribute `lower_is_better`."""
    return bool(getattr(metric, "lower_is_better", False))


def choose_plain_interval(metric: PlainMetric, origin: str = "") -> tuple[int, IntervalMethod]:
    """Return the number of resamples and the interval's method. Raises DataError for a wrong number of resamples."""
    resamples = getattr(metric, "resamples", PLAIN_RESAMPLES)
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise make_plain_error(metric, origin, f"resamples = {resamples!r} is not a positive whole number")
    return resamples, "bca" if resamples >= PLAIN_RESAMPLES else "percentile"


def format_plain_signature(metric: PlainMetric, digest: str, origin: str = "") -> str:
    """Format a signature: function, digest of its code, interval and this library's version."""
    resamples, method = choose_plain_interval(metric, origin)
    interval = f"interval:{method},{resamples},seed=0"
    return "|".join([get_plain_name(metric), f"sha256:{digest[:12]}", interval, f"llmkit {__version__}"])


def hash_source(metric: PlainMetric) -> str:
    """Return the sha256 of the function's source code, or of its bytecode where Python has no source."""
    try:
        code = inspect.getsource(metric).encode()
    except (OSError, TypeError):
        code = getattr(getattr(metric, "__code__", None), "co_code", b"")
    return hashlib.sha256(code).hexdigest()


def sort_plain_rows(references: Sequence[Any], predictions: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """Sort the rows by content, so that intervals do not depend on the order of the file."""
    rows = sorted(zip(references, predictions, strict=True), key=repr)
    return [row[0] for row in rows], [row[1] for row in rows]


def pack_objects(column: Sequence[Any]) -> Any:
    """Return an array of Python objects, of lists too."""
    packed = np.empty(len(column), dtype=object)
    for i, one in enumerate(column):
        packed[i] = one
    return packed


@contextmanager
def silence_metric_output() -> Iterator[None]:
    """Redirect the output of foreign code to stderr, because stdout is for results, and ignore its warnings."""
    with redirect_stdout(sys.stderr), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
