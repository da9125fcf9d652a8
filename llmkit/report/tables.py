"""Scores as tables: models, baselines, differences, and labels; every number with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit import console
from llmkit.data.row_errors import counted

if TYPE_CHECKING:
    from llmkit.evaluation.compare import Comparison, Difference
    from llmkit.evaluation.score_report import Report

NAMES = {"majority": "majority class", "mean": "mean of the numbers", "tfidf": "TF-IDF + logistic regression",
         "lexicon": "VADER's lexicon"}  # fmt: skip
OF_NUMBERS = NAMES | {"tfidf": "TF-IDF + ridge regression"}
LEFT_OUT = "--json has the intervals of the baselines too"
CONFUSIONS = 20  # pairs of labels that are shown


def show(report: Report, model: str) -> None:
    """Print the report's table to stdout, and below it those of the labels where it has them."""
    names = list(report.metrics)
    print_scores(report, names, [[model, *cells(report.metrics, names)]], [])
    say_beaten(report, model)
    show_labels(report)


def show_comparison(comparison: Comparison) -> None:
    """Print one table of all models, the baselines and the differences, and what the rows tell in the first metric."""
    report, models = comparison.reports[0], comparison.models
    names, pairs = list(report.metrics), list(zip(models[1:], comparison.differences, strict=True))
    every = [[model, *cells(one.metrics, names)] for model, one in zip(models, comparison.reports, strict=True)]
    print_scores(report, names, every, [[f"{model} - {models[0]}", *cells(by, names)] for model, by in pairs])
    say_beaten(report, models[0])
    for model, by in pairs:
        console.out(told(model, models[0], names[0], by[names[0]], names[0] in report.lower_is_better))
    for model, one in zip(models, comparison.reports, strict=True):
        if one.per_label is not None:
            console.out(f"\n{model}")
            show_labels(one)


def print_scores(report: Report, names: Sequence[str], models: list[list[str]], below: list[list[str]]) -> None:
    """Print the table of scores: a row for each model, each baseline, and what is `below`.

    On a terminal too narrow for it a metric has the row and a model the column. Where that is too wide again the
    baselines have no intervals there; and where even so, there are several tables of some metrics each.
    """
    held = [[called(kind, report), *cells(by, names)] for kind, by in report.baselines.items()]
    values = [[name, *map(bare, rest)] for name, *rest in held]
    title = f"{report.split}: {counted(report.n, 'row')}, scores with 95 % intervals"
    wide = [["", *names], *models, *held, *below]
    for rows, more in ((wide, ""), (turned(wide), ""), (turned([wide[0], *models, *values, *below]), LEFT_OUT)):
        if console.fits(rows[0], rows[1:]):
            print_numbers(rows, title)
            if more:
                console.out(more)
            return
    for part in parts(wide):
        print_numbers(part, title)
        title = ""


def turned(rows: list[list[str]]) -> list[list[str]]:
    """The table with its rows as columns."""
    return [list(column) for column in zip(*rows, strict=True)]


def parts(rows: list[list[str]]) -> list[list[list[str]]]:
    """Tables that fit, each with the first column and as many of the others as there is room for."""
    first, *rest = turned(rows)
    found = []
    while rest:
        sizes = range(len(rest), 0, -1)
        tables = ((size, turned([first, *rest[:size]])) for size in sizes)
        size, table = next(one for one in tables if one[0] == 1 or console.fits(one[1][0], one[1][1:]))
        found.append(table)
        rest = rest[size:]
    return found


def print_numbers(rows: list[list[str]], title: str) -> None:
    """Print a table whose first row is its head and whose first column its names."""
    console.table(rows[0], rows[1:], set(range(1, len(rows[0]))), title)


def called(kind: str, report: Report) -> str:
    """A baseline's name for people."""
    return (NAMES if report.labels else OF_NUMBERS).get(kind, kind)


def say_beaten(report: Report, model: str) -> None:
    """Say where a baseline is as good as the model in the first metric; nothing of rows that both have learned."""
    if report.learned:
        return
    first, own = next(iter(report.metrics.items()))
    sign = -1 if first in report.lower_is_better else 1
    better = [kind for kind, by in report.baselines.items() if sign * by[first].value >= sign * own.value]
    if better:
        beaten = " nor ".join(called(kind, report) for kind in better)
        console.out(f"{model} does not beat {beaten} in {first}: more rows, more epochs or a higher rate may help")


def told(model: str, against: str, metric: str, found: Difference, lower_is_better: bool) -> str:
    """What the rows tell of two models, in words."""
    if math.isnan(found.value) or math.isnan(found.low):
        return f"these rows do not tell {model} and {against} apart in {metric}: it is undefined on them"
    if found.low <= 0 <= found.high:
        return f"these rows do not tell {model} and {against} apart in {metric}: the difference is {cell(found)}"
    word = "better" if (found.value > 0) != lower_is_better else "worse"
    size = found if found.value > 0 else type(found)(-found.value, -found.high, -found.low)
    return f"{model} is {word} than {against} in {metric} by {cell(size)}"


def show_labels(report: Report) -> None:
    """Print each label's scores, the worst F1 first, and which label was taken for which."""
    if report.per_label is not None:
        by_f1 = sorted(report.per_label.items(), key=lambda one: score_of(one[1]["f1"]))
        kinds = ("precision", "recall", "f1")
        rows = [["label", *kinds, "rows"], *([label, *cells(by, kinds), f"{by['support']:,}"] for label, by in by_f1)]
        if not console.fits(rows[0], rows[1:]):
            rows = [[label, bare(precision), bare(recall), *more] for label, precision, recall, *more in rows]
        console.out()
        print_numbers(rows, "")
    if report.confusions:
        pairs = [[true, said, f"{rows:,}"] for true, said, rows in report.confusions[:CONFUSIONS]]
        console.out()
        console.table(["reference", "said", "rows"], pairs, {2})
        if (more := len(report.confusions) - CONFUSIONS) > 0:
            console.out(f"and {counted(more, 'more pair')}")


def score_of(score: Any) -> float:
    """The value to sort by."""
    return float(score.value)


def cells(scores: Mapping[str, Any], names: Sequence[str]) -> list[str]:
    """The score of each name, empty where there is none."""
    return [cell(scores[name]) if name in scores else "" for name in names]


def cell(score: Any) -> str:
    """A score as `0.891 [0.863, 0.915]`, `undefined` where it has no value."""
    if math.isnan(score.value):
        return "undefined"
    return f"{score.value:.3f} [{score.low:.3f}, {score.high:.3f}]"


def bare(cell: str) -> str:
    """The score of a cell without its interval."""
    return cell.partition(" [")[0]
