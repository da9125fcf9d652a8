"""How often the 95 % intervals of the classification metrics hold the true value, by simulation.

The grid: 2, 5 and 20 labels; balanced and skewed (1, 1/2, 1/3, ...) priors; a share of 0.6, 0.8, 0.9 or 0.95 of each
label's rows answered rightly, the wrong answers falling on the other labels by their priors; n = 500 and n = 100 rows.
`--beyond` leaves the grid that the promise speaks of: nearly faultless answers, and up to 1,000 labels.

The true value is the metric of the joint distribution itself, what infinitely many rows would give. With many rare
labels and few rows a macro average is a biased guess of it, since labels that did not occur are left out; an interval
that misses for this reason is counted as a miss.

    python benchmarks/coverage.py [--trials 1000] [--processes 2] [--beyond]
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product

import numpy as np

from llmkit.metrics.classification import from_cells, score_all

METRICS = ("accuracy", "macro_f1", "weighted_f1", "macro_precision", "macro_recall", "weighted_precision", "mcc")
LABELS, PRIORS, SHARES, ROWS = (2, 5, 20), ("balanced", "skewed"), (0.6, 0.8, 0.9, 0.95), (500, 100)
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
        """The probability [labels, labels] of each reference and answer."""
        weight = np.ones(self.labels) if self.prior == "balanced" else 1 / np.arange(1, self.labels + 1)
        prior = weight / weight.sum()
        wrong = np.where(np.eye(self.labels, dtype=bool), 0, prior)
        answer = self.share * np.eye(self.labels) + (1 - self.share) * wrong / wrong.sum(axis=1, keepdims=True)
        return prior[:, None] * answer

    def __str__(self) -> str:
        return f"{self.labels} labels, {self.prior}, {self.share}"


def grid(row_counts: Sequence[int] = ROWS) -> Iterator[Cell]:
    """The stated grid."""
    return (Cell(*point) for point in product(LABELS, PRIORS, SHARES, row_counts))


def coverage(cell: Cell, trials: int, seed: int = 0) -> dict[str, float]:
    """The share of `trials` draws of `cell.n` rows whose interval holds the true value, by metric."""
    joint = cell.joint()
    true, said = np.divmod(np.arange(joint.size), cell.labels)
    target = from_cells(METRICS, true, said)(joint.reshape(1, -1))[0]
    names = [f"label {i}" for i in range(cell.labels)]
    rng = np.random.default_rng([seed, cell.labels, PRIORS.index(cell.prior), round(cell.share * 100), cell.n])
    held = np.zeros(len(METRICS))
    for trial in range(trials):
        drawn = rng.choice(joint.size, size=cell.n, p=joint.ravel())
        scores = score_all(METRICS, [names[i] for i in true[drawn]], [names[i] for i in said[drawn]], names, seed=trial)
        held += [scores[name].low <= value <= scores[name].high for name, value in zip(METRICS, target, strict=True)]
    return dict(zip(METRICS, (held / trials).tolist(), strict=True))


def table(found: dict[Cell, dict[str, float]]) -> str:
    """A Markdown table: mean coverage and worst cell, by number of rows and metric."""
    lines = ["| metric | n | mean coverage | worst cell | where |", "|---|---|---|---|---|"]
    for n, name in product(sorted({cell.n for cell in found}, reverse=True), METRICS):
        shares = {cell: by_name[name] for cell, by_name in found.items() if cell.n == n}
        worst = max(shares, key=lambda cell: abs(shares[cell] - 0.95))
        lines.append(f"| {name} | {n} | {np.mean(list(shares.values())):.1%} | {shares[worst]:.1%} | {worst} |")
    return "\n".join(lines)


def by_cell(found: dict[Cell, dict[str, float]]) -> str:
    """A Markdown table: the coverage of each metric in each cell."""
    lines = ["| cell | n | " + " | ".join(METRICS) + " |", "|---" * (len(METRICS) + 2) + "|"]
    for cell, by_name in found.items():
        lines.append(f"| {cell} | {cell.n} | " + " | ".join(f"{by_name[name]:.1%}" for name in METRICS) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=1000, help="simulated data sets for each point of the grid")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--beyond", action="store_true", help="points outside the grid, one line each")
    given = parser.parse_args()
    cells = [Cell(*point) for point in BEYOND] if given.beyond else list(grid())
    with ProcessPoolExecutor(given.processes) as pool:
        found = list(pool.map(coverage, cells, [given.trials] * len(cells)))
    print(f"Coverage of 95 % intervals, {given.trials:,} trials for each of {len(cells)} points:\n")
    show = by_cell if given.beyond else table
    print(show(dict(zip(cells, found, strict=True))))


if __name__ == "__main__":
    main()
