"""Scores of rows are clipped to their limits, sorted by content and signed."""

from __future__ import annotations

import numpy as np

from llmkit.metrics.rows import argsort_rows, format_metric_signature, make_mean_statistic, score_rows
from llmkit.version import __version__

LIMITS = {"mae": (0.0, float("inf"))}


def test_sorting_does_not_depend_on_row_order() -> None:
    rng = np.random.default_rng(0)
    table, flags = rng.integers(0, 3, size=(200, 3)) / 2 - 0.5, rng.random(200) < 0.5
    shuffled = rng.permutation(200)
    first, second = argsort_rows(table, flags), shuffled[argsort_rows(table[shuffled], flags[shuffled])]
    assert (table[first] == table[second]).all()
    assert (flags[first] == flags[second]).all()


def test_scores_are_clipped_to_their_limits() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    found = score_rows(["mae"], lambda c: 2 * make_mean_statistic(values)(c)[:, None], 4, ["s"], limits=LIMITS, seed=0)[
        "mae"
    ]
    assert found.value == 0.5
    assert found.low >= 0
    assert found.high > 1
    one = score_rows(["x"], lambda c: make_mean_statistic(values)(c)[:, None] + 0.7, 4, ["s"], limits={}, seed=0)["x"]
    assert one.high == 1


def test_intervals_without_spread_extend_to_wilsons_bound() -> None:
    values = np.ones(50)

    def score(other: float) -> tuple[float, float]:
        found = score_rows(
            ["x"],
            lambda c: make_mean_statistic(values)(c)[:, None],
            50,
            ["s"],
            limits={},
            seed=0,
            flip_rows=lambda share: np.array([other - share]),
        )["x"]
        return found.low, found.high

    np.testing.assert_allclose(score(1.0), (1 - 0.0713476, 1.0), atol=1e-6)
    assert score(np.nan) == (1.0, 1.0)


def test_undefined_values_have_no_interval() -> None:
    found = score_rows(["x"], lambda c: np.full((len(c), 1), np.nan), 3, ["s"], limits={}, seed=0)["x"]
    assert found.as_dict() == {"value": None, "low": None, "high": None, "signature": "s"}


def test_signatures_have_metric_variant_interval_and_library() -> None:
    assert format_metric_signature("x", [], None) == f"x|interval:wilson|llmkit {__version__}"
    assert format_metric_signature("x", ["a:b"], 3) == f"x|a:b|interval:bca,2000,seed=3|llmkit {__version__}"
    assert format_metric_signature("rmse", [], 3) == f"rmse|interval:log(x),2000,seed=3|llmkit {__version__}"


def test_inverted_intervals_are_clipped_to_the_limits() -> None:
    values = np.array([0.0, 0.0, 0.0, 1.0])
    statistic = lambda c: np.stack([make_mean_statistic(values)(c)] * 2, axis=1)  # noqa: E731
    found = score_rows(["x", "ece"], statistic, 4, ["s"] * 2, limits={}, seed=0, compute_inverted=lambda: (-0.1, 1.5))
    assert (found["ece"].low, found["ece"].value, found["ece"].high) == (0, 0.25, 1)
    assert found["x"].high < 1
