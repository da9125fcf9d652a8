"""Scores as a table: the model, then each baseline, every number with its interval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from llmkit import console

if TYPE_CHECKING:
    from llmkit.evaluation.evaluate import Report
    from llmkit.metrics import Score

NAMES = {"majority": "majority class", "tfidf": "TF-IDF + logistic regression"}


def show(report: Report, model: str) -> None:
    """Print the report's table to stdout."""
    names = list(report.metrics)
    rows = [[model, *cells(report.metrics, names)]]
    rows += [[NAMES.get(kind, kind), *cells(scores, names)] for kind, scores in report.baselines.items()]
    title = f"{report.split}: {report.n:,} rows, scores with 95 % intervals"
    console.table(["", *names], rows, set(range(1, len(names) + 1)), title)
    first = names[0]
    better = [kind for kind, by in report.baselines.items() if by[first].value >= report.metrics[first].value]
    if better:
        console.out(f"{model} does not beat {' nor '.join(NAMES.get(kind, kind) for kind in better)} in {first}: "
                    "more rows, more epochs or a higher rate may help")  # fmt: skip


def cells(scores: Mapping[str, Score], names: list[str]) -> list[str]:
    """Each score as `0.891 [0.863, 0.915]`."""
    return [f"{scores[n].value:.3f} [{scores[n].low:.3f}, {scores[n].high:.3f}]" for n in names]
