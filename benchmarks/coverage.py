"""Simulates how often the 95 % intervals of the metrics contain the true value.

The grid: 2, 5 and 20 labels; balanced and skewed (1, 1/2, 1/3, ...) priors; a share of 0.6, 0.8, 0.9 or 0.95 of the
rows of each label predicted correctly, wrong predictions distributed over the other labels by their priors; n = 500 and
n = 100 rows. `--beyond` leaves the documented grid: nearly perfect predictions, and up to 1,000 labels.

The true value is the metric of the joint distribution, the limit for infinitely many rows. With many rare labels and
few rows a macro average is a biased estimate of it, because labels that do not occur are left out; an interval that
misses the true value for this reason is counted as a miss.

`--kind` simulates another family of metrics, on rows drawn from `FAMILIES`; there the true value is the metric of
100,000 further rows. probabilities and multilabel: normal evidence, so that the posteriors are calibrated (sharpness 1)
or overconfident (2). The calibration error of a calibrated model is exactly 0, which no sample reaches, not even one of
100,000 rows: there the true value is set to 0.

    python benchmarks/coverage.py [--trials 1000] [--processes 2] [--beyond | --kind KIND]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from statistics import NormalDist
from typing import Any

import numpy as np

from llmkit.metrics import regression
from llmkit.metrics.classification import multilabel, probabilities
from llmkit.metrics.classification.single_label import make_confusion_statistic, score_classification

METRICS = ("accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision", "mcc")
LABELS, PRIORS, SHARES, ROWS = (2, 5, 20), ("balanced", "skewed"), (0.6, 0.8, 0.9, 0.95), (500, 100)
REFERENCE_ROWS = 100_000
CALIBRATED = 1.0  # sharpness
Rows = tuple[Any, ...]  # the arguments of `make_statistic` and `score` of a family after the names
BEYOND = (
    (2, "balanced", 0.99, 100),
    (5, "skewed", 0.99, 100),
    (2, "balanced", 0.998, 500),
    (5, "skewed", 0.998, 500),
    (77, "balanced", 0.6, 500),
    (77, "skewed", 0.9, 500),
    (150, "balanced", 0.9, 1500),
    (150, "skewed", 0.8, 1500),
    (1000, "balanced", 0.8, 10000),
)


@dataclass(frozen=True)
class Cell:
    """One point of the grid."""

    labels: int
    prior: str
    share: float
    n: int

    def joint(self) -> np.ndarray:
        """The probability [labels, labels] of each pair of reference and prediction."""
        weight = np.ones(self.labels) if self.prior == "balanced" else 1 / np.arange(1, self.labels + 1)
        prior = weight / weight.sum()
        wrong = np.where(np.eye(self.labels, dtype=bool), 0, prior)
        predicted = self.share * np.eye(self.labels) + (1 - self.share) * wrong / wrong.sum(axis=1, keepdims=True)
        return prior[:, None] * predicted

    def __str__(self) -> str:
        return f"{self.labels} labels, {self.prior}, {self.share}"


def grid(row_counts: Sequence[int] = ROWS) -> Iterator[Cell]:
    """The grid of the module docstring."""
    return (Cell(*point) for point in product(LABELS, PRIORS, SHARES, row_counts))


def coverage(cell: Cell, trials: int, seed: int = 0) -> dict[str, float]:
    """Measure by metric the share of `trials` draws of `cell.n` rows whose interval contains the true value."""
    joint = cell.joint()
    true, predicted = np.divmod(np.arange(joint.size), cell.labels)
    target = make_confusion_statistic(METRICS, true, predicted)(joint.reshape(1, -1))[0]
    names = [f"label {i}" for i in range(cell.labels)]
    rng = np.random.default_rng([seed, cell.labels, PRIORS.index(cell.prior), round(cell.share * 100), cell.n])
    covered = np.zeros(len(METRICS))
    for trial in range(trials):
        drawn = rng.choice(joint.size, size=cell.n, p=joint.ravel())
        scores = score_classification(
            METRICS, [names[i] for i in true[drawn]], [names[i] for i in predicted[drawn]], names, seed=trial
        )
        covered += [scores[name].low <= value <= scores[name].high for name, value in zip(METRICS, target, strict=True)]
    return dict(zip(METRICS, (covered / trials).tolist(), strict=True))


def draw_probabilities(rng: np.random.Generator, n: int, k: int, prior: str, signal: float, sharp: float) -> Rows:
    """Draw references, probabilities and labels of n rows."""
    weight = np.ones(k) if prior == "balanced" else 1 / np.arange(1, k + 1)
    share = weight / weight.sum()
    true = rng.choice(k, size=n, p=share)
    evidence = rng.normal(size=(n, k)) + signal * np.eye(k)[true]
    odds = sharp * (np.log(share) + signal * evidence)
    unnormalized = np.exp(odds - odds.max(axis=1, keepdims=True))
    labels = [f"label {i}" for i in range(k)]
    return [labels[i] for i in true], unnormalized / unnormalized.sum(axis=1, keepdims=True), labels


def draw_multilabel(rng: np.random.Generator, n: int, k: int, rate: float, signal: float, sharp: float) -> Rows:
    """Draw references, predictions, labels and probabilities of n rows; labels correlate, later ones are rarer."""
    rates = rate / np.sqrt(np.arange(1, k + 1))
    edges = np.array([NormalDist().inv_cdf(float(one)) for one in rates])
    true = np.sqrt(0.3) * rng.normal(size=(n, 1)) + np.sqrt(0.7) * rng.normal(size=(n, k)) < edges
    evidence = rng.normal(size=(n, k)) + signal * true
    odds = sharp * (np.log(rates / (1 - rates)) + signal * (evidence - signal / 2))
    predicted = 1 / (1 + np.exp(-odds))
    labels = [f"label {i}" for i in range(k)]
    rows = [[[labels[i] for i in np.flatnonzero(row)] for row in side] for side in (true, predicted > 0.5)]
    return rows[0], rows[1], labels, predicted


def draw_regression(rng: np.random.Generator, n: int, shape: str, correlation: float) -> Rows:
    """Draw references and predictions of n rows: normal, skewed (log-normal) or tied (rounded to halves)."""
    true, noise = rng.normal(size=(2, n))
    predicted = correlation * true + np.sqrt(1 - correlation**2) * noise
    if shape == "skewed":
        return np.exp(true / 2), np.exp(predicted / 2)
    return (np.round(2 * true) / 2, np.round(2 * predicted) / 2) if shape == "tied" else (true, predicted)


@dataclass(frozen=True)
class Family:
    """The metrics of one module and the rows to simulate."""

    make_statistic: Callable[..., Any]
    score: Callable[..., Any]
    names: Sequence[str]
    draw: Callable[..., Rows]
    points: Sequence[tuple[Any, ...]]


FAMILIES = {
    "probabilities": Family(
        probabilities.make_probability_statistic,
        probabilities.score_probabilities,
        probabilities.PROBABILITY_METRICS,
        draw_probabilities,
        list(product((2, 5, 20), ("balanced", "skewed"), (1.0, 2.5), (1.0, 2.0))),
    ),
    "multilabel": Family(
        multilabel.make_multilabel_statistic,
        multilabel.score_multilabel,
        (
            "hamming_loss",
            "micro_f1",
            "macro_f1",
            "weighted_f1",
            "samples_f1",
            *multilabel.MULTILABEL_PROBABILITY_METRICS,
        ),
        draw_multilabel,
        list(product((3, 10, 30), (0.2, 0.4), (1.5, 3.0), (1.0, 2.0))),
    ),
    "regression": Family(
        regression.make_regression_statistic,
        regression.score_regression,
        regression.REGRESSION_METRICS,
        draw_regression,
        list(product(("normal", "skewed", "tied"), (0.3, 0.7, 0.95))),
    ),
}


@dataclass(frozen=True)
class Point:
    """A point of a family's grid."""

    kind: str
    point: tuple[Any, ...]
    n: int

    def __str__(self) -> str:
        return ", ".join(map(str, self.point))


def coverage_of_rows(at: Point, trials: int, seed: int = 0) -> dict[str, float]:
    """Measure by metric the share of `trials` draws of `at.n` rows whose interval contains the true value."""
    family = FAMILIES[at.kind]
    rng = np.random.default_rng([seed, family.points.index(at.point), at.n])
    target = family.make_statistic(family.names, *family.draw(rng, REFERENCE_ROWS, *at.point))(
        np.ones((1, REFERENCE_ROWS))
    )[0]
    if "ece" in family.names and at.point[-1] == CALIBRATED:
        target[list(family.names).index("ece")] = 0
    covered = np.zeros(len(family.names))
    for trial in range(trials):
        scores = family.score(family.names, *family.draw(rng, at.n, *at.point), seed=trial)
        covered += [
            scores[name].low <= value <= scores[name].high for name, value in zip(family.names, target, strict=True)
        ]
    return dict(zip(family.names, (covered / trials).tolist(), strict=True))


def table(results: Mapping[Any, dict[str, float]]) -> str:
    """Format a Markdown table: mean coverage and worst cell, by number of rows and metric."""
    lines = ["| metric | n | mean coverage | worst cell | where |", "|---|---|---|---|---|"]
    for n, name in product(sorted({cell.n for cell in results}, reverse=True), next(iter(results.values()))):
        shares = {cell: by_name[name] for cell, by_name in results.items() if cell.n == n}
        worst = max(shares, key=lambda cell: abs(shares[cell] - 0.95))
        lines.append(f"| {name} | {n} | {np.mean(list(shares.values())):.1%} | {shares[worst]:.1%} | {worst} |")
    return "\n".join(lines)


def format_cells(results: dict[Cell, dict[str, float]]) -> str:
    """Format a Markdown table: the coverage of each metric in each cell."""
    lines = ["| cell | n | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for cell, by_name in results.items():
        lines.append(f"| {cell} | {cell.n} | " + " | ".join(f"{by_name[name]:.1%}" for name in METRICS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="simulated data sets for each point of the grid")
    parser.add_argument("--processes", type=int, default=2)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--beyond", action="store_true", help="points outside the grid, one line each")
    which.add_argument("--kind", choices=FAMILIES, help="another family of metrics")
    args = parser.parse_args()
    cells: Sequence[Any] = [Cell(*point) for point in BEYOND] if args.beyond else list(grid())
    if args.kind:
        cells = [Point(args.kind, point, n) for point, n in product(FAMILIES[args.kind].points, ROWS)]
    with ProcessPoolExecutor(args.processes) as pool:
        measure = coverage_of_rows if args.kind else coverage
        results = list(pool.map(measure, cells, [args.trials] * len(cells)))
    print(f"Coverage of 95 % intervals, {args.trials:,} trials for each of {len(cells)} points:\n")
    format_results = format_cells if args.beyond else table
    print(format_results(dict(zip(cells, results, strict=True))))


if __name__ == "__main__":
    main()
