"""Coverage of the intervals on a small seeded part of the grid; `benchmarks/coverage.py` measures all of it."""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytestmark = pytest.mark.slow

TRIALS = 25


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    path = Path(__file__).parents[2] / "benchmarks" / "coverage.py"
    spec = importlib.util.spec_from_file_location("llmkit_benchmark_coverage", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_intervals_have_the_promised_coverage(simulation: ModuleType) -> None:
    """200 trials have a standard error of 1.5 %, so the range is wider than the promised 93.5 to 96.5 %."""
    cells = [cell for cell in simulation.grid([500]) if cell.labels < 20 and cell.share in (0.6, 0.9)]
    found = [simulation.coverage(cell, TRIALS) for cell in cells]
    means = {name: np.mean([by_name[name] for by_name in found]) for name in simulation.METRICS}
    assert {name: mean for name, mean in means.items() if not 0.90 <= mean <= 0.99} == {}


def test_nearly_perfect_predictions_are_covered(simulation: ModuleType) -> None:
    found = simulation.coverage(simulation.Cell(2, "balanced", 0.99, 100), 3 * TRIALS)
    assert {name: share for name, share in found.items() if share < 0.85} == {}


@pytest.mark.parametrize(
    ("kind", "point", "names"),
    [
        ("probabilities", (2, "balanced", 1.0, 2.0), ["roc_auc", "average_precision", "log_loss", "ece"]),
        ("multilabel", (10, 0.4, 1.5, 1.0), ["micro_f1", "hamming_loss", "roc_auc", "ece"]),
        ("regression", ("normal", 0.7), ["pearson", "spearman", "mae", "rmse", "r2"]),
    ],
)
def test_other_families_have_the_promised_coverage(
    simulation: ModuleType, kind: str, point: tuple[object, ...], names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """75 trials have a standard error of 2.5 %."""
    monkeypatch.setattr(simulation, "REFERENCE_ROWS", 50_000)
    family = simulation.FAMILIES[kind]
    monkeypatch.setitem(simulation.FAMILIES, kind, dataclasses.replace(family, names=names))
    found = simulation.coverage_of_rows(simulation.Point(kind, point, 300), 3 * TRIALS)
    assert {name: share for name, share in found.items() if not 0.88 <= share <= 1} == {}


def test_the_joint_distribution_has_the_given_accuracy(simulation: ModuleType) -> None:
    cell = simulation.Cell(5, "skewed", 0.8, 500)
    joint = cell.joint()
    assert joint.sum() == pytest.approx(1)
    assert np.diag(joint) / joint.sum(axis=1) == pytest.approx(np.full(5, 0.8))


def test_the_table_shows_the_worst_cell(simulation: ModuleType) -> None:
    easy, hard = simulation.Cell(2, "balanced", 0.9, 500), simulation.Cell(20, "skewed", 0.6, 500)
    found = {easy: dict.fromkeys(simulation.METRICS, 0.95), hard: dict.fromkeys(simulation.METRICS, 0.91)}
    assert "| macro_f1 | 500 | 93.0% | 91.0% | 20 labels, skewed, 0.6 |" in simulation.table(found)
