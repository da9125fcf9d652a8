"""Score tables: models, baselines, differences and labels, each score with its confidence interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit import console
from llmkit.data.row_errors import pluralize

if TYPE_CHECKING:
    from llmkit.evaluation.compare import Comparison, Difference
    from llmkit.evaluation.score_report import Report

BASELINE_NAMES = {"majority": "majority class", "mean": "mean of the numbers", "tfidf": "TF-IDF + logistic regression",
                  "lexicon": "VADER's lexicon"}  # fmt: skip
REGRESSION_BASELINE_NAMES = BASELINE_NAMES | {"tfidf": "TF-IDF + ridge regression"}
INTERVALS_HINT = "--json has the intervals of the baselines too"
MAX_CONFUSION_ROWS = 20  # pairs of labels that are shown


def print_report(report: Report, model: str) -> None:
    """Print the table of scores to stdout, and below it those of the labels if the report has them."""
    names = list(report.metrics)
    print_scores(report, names, [[model, *format_score_cells(report.metrics, names)]], [])
    print_unbeaten_baselines(report, model)
    print_label_scores(report)


def print_comparison(comparison: Comparison) -> None:
    """Print one table of all models, baselines and differences, and whether each difference is significant."""
    report, models = comparison.reports[0], comparison.models
    names, pairs = list(report.metrics), list(zip(models[1:], comparison.differences, strict=True))
    scores = [
        [model, *format_score_cells(one.metrics, names)] for model, one in zip(models, comparison.reports, strict=True)
    ]
    differences = [[f"{model} - {models[0]}", *format_score_cells(by, names)] for model, by in pairs]
    print_scores(report, names, scores, differences)
    print_unbeaten_baselines(report, models[0])
    lower_is_better = names[0] in report.lower_is_better
    for model, by in pairs:
        console.print_result(describe_difference(model, models[0], names[0], by[names[0]], lower_is_better))
    for model, one in zip(models, comparison.reports, strict=True):
        if one.per_label is not None:
            console.print_result(f"\n{model}")
            print_label_scores(one)


def print_scores(report: Report, names: Sequence[str], models: list[list[str]], below: list[list[str]]) -> None:
    """Print the table of scores: a row for each model and each baseline, then the rows `below`.

    On a terminal too narrow for it the table is transposed: a row for each metric. If that is too wide as well, the
    baselines have no intervals; if even that does not fit, there are several tables of some metrics each.
    """
    baselines = [
        [get_baseline_name(kind, report), *format_score_cells(by, names)] for kind, by in report.baselines.items()
    ]
    values = [[name, *map(strip_interval, rest)] for name, *rest in baselines]
    title = f"{report.split}: {pluralize(report.n, 'row')}, scores with 95 % intervals"
    wide = [["", *names], *models, *baselines, *below]
    short = transpose_table([wide[0], *models, *values, *below])
    for rows, hint in ((wide, ""), (transpose_table(wide), ""), (short, INTERVALS_HINT)):
        if console.can_fit_table(rows[0], rows[1:]):
            print_number_table(rows, title)
            if hint:
                console.print_result(hint)
            return
    for part in split_wide_table(wide):
        print_number_table(part, title)
        title = ""


def transpose_table(rows: list[list[str]]) -> list[list[str]]:
    """The table with its rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def split_wide_table(rows: list[list[str]]) -> list[list[list[str]]]:
    """Tables that fit the terminal, each with the first column and as many of the others as there is room for."""
    first, *rest = transpose_table(rows)
    parts = []
    while rest:
        sizes = range(len(rest), 0, -1)
        tables = ((size, transpose_table([first, *rest[:size]])) for size in sizes)
        size, table = next(one for one in tables if one[0] == 1 or console.can_fit_table(one[1][0], one[1][1:]))
        parts.append(table)
        rest = rest[size:]
    return parts


def print_number_table(rows: list[list[str]], title: str) -> None:
    """Print a table whose first row is its head and whose first column holds names, the others numbers."""
    console.print_table(rows[0], rows[1:], set(range(1, len(rows[0]))), title)


def get_baseline_name(kind: str, report: Report) -> str:
    """A baseline's name for people."""
    return (BASELINE_NAMES if report.labels else REGRESSION_BASELINE_NAMES).get(kind, kind)


def print_unbeaten_baselines(report: Report, model: str) -> None:
    """Name the baselines that the model does not beat in the first metric; not on rows that both were trained on."""
    if report.learned:
        return
    metric, own = next(iter(report.metrics.items()))
    sign = -1 if metric in report.lower_is_better else 1
    better = [kind for kind, by in report.baselines.items() if sign * by[metric].value >= sign * own.value]
    if better:
        names = " nor ".join(get_baseline_name(kind, report) for kind in better)
        hint = "more rows, more epochs or a higher learning rate may help"
        console.print_result(f"{model} does not beat {names} in {metric}: {hint}")


def describe_difference(model: str, against: str, metric: str, difference: Difference, lower_is_better: bool) -> str:
    """Whether the rows show a significant difference between two models, in words."""
    undecided = f"no significant difference between {model} and {against} in {metric}"
    if math.isnan(difference.value) or math.isnan(difference.low):
        return f"{undecided}: it is undefined on these rows"
    if difference.low <= 0 <= difference.high:
        return f"{undecided}: it is {format_score_cell(difference)}"
    word = "better" if (difference.value > 0) != lower_is_better else "worse"
    positive = type(difference)(-difference.value, -difference.high, -difference.low)
    size = difference if difference.value > 0 else positive
    return f"{model} is {word} than {against} in {metric} by {format_score_cell(size)}"


def print_label_scores(report: Report) -> None:
    """Print each label's scores, the worst F1 first, and the most frequent confusions."""
    if report.per_label is not None:
        by_f1 = sorted(report.per_label.items(), key=lambda one: get_score_value(one[1]["f1"]))
        metrics = ("precision", "recall", "f1")
        scores = [[label, *format_score_cells(by, metrics), f"{by['support']:,}"] for label, by in by_f1]
        rows = [["label", *metrics, "rows"], *scores]
        if not console.can_fit_table(rows[0], rows[1:]):
            rows = [
                [label, strip_interval(precision), strip_interval(recall), *more]
                for label, precision, recall, *more in rows
            ]
        console.print_result()
        print_number_table(rows, "")
    if report.confusions:
        pairs = [
            [reference, predicted, f"{rows:,}"] for reference, predicted, rows in report.confusions[:MAX_CONFUSION_ROWS]
        ]
        console.print_result()
        console.print_table(["reference", "predicted", "rows"], pairs, {2})
        if (more := len(report.confusions) - MAX_CONFUSION_ROWS) > 0:
            console.print_result(f"and {pluralize(more, 'more pair')}")


def get_score_value(score: Any) -> float:
    """The value to sort by."""
    return float(score.value)


def format_score_cells(scores: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The score of each name, empty where there is none."""
    return [format_score_cell(scores[name]) if name in scores else "" for name in names]


def format_score_cell(score: Any) -> str:
    """A score as `0.891 [0.863, 0.915]`, `undefined` where it has no value."""
    if math.isnan(score.value):
        return "undefined"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def strip_interval(cell: str) -> str:
    """The score of a cell without its interval."""
    return cell.partition(" [")[0]
