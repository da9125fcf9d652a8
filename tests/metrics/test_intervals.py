"""Intervals equal scipy's and are reproducible, bounded and defined for edge cases."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from llmkit.metrics import intervals
from llmkit.metrics.intervals import (
    Floats,
    IntervalMethod,
    bootstrap_interval,
    bootstrap_intervals,
    compute_wilson_interval,
)


def make_mean(values: Floats) -> intervals.Statistic:
    return lambda counts: counts @ values / counts.sum(axis=1)


def make_pearson(x: Floats, y: Floats) -> intervals.Statistic:
    """Return the statistic of Pearson's correlation from sums over rows, NaN where one side is constant."""

    def values(counts: Floats) -> Floats:
        n = counts.sum(axis=1)
        mx, my = counts @ x / n, counts @ y / n
        vx, vy = counts @ x**2 / n - mx**2, counts @ y**2 / n - my**2
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where((vx > 1e-12) & (vy > 1e-12), (counts @ (x * y) / n - mx * my) / np.sqrt(vx * vy), np.nan)

    return values


@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(
    ("successes", "n"), [(0, 1), (1, 1), (0, 10), (3, 10), (10, 10), (499, 500), (88_000, 100_000)]
)
def test_wilson_equals_scipy(successes: int, n: int, confidence: float) -> None:
    expected = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    assert compute_wilson_interval(successes, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_no_rows_is_the_full_range() -> None:
    assert compute_wilson_interval(0, 0) == (0.0, 1.0)


@pytest.mark.parametrize("method", ["percentile", "bca"])
@pytest.mark.parametrize("n", [8, 40, 150])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_bootstrap_of_rows_equals_scipy_on_the_same_draws(method: IntervalMethod, n: int, confidence: float) -> None:
    values = np.random.default_rng(n).lognormal(size=n)
    scipys: Any = stats.bootstrap(
        (values,), np.mean, n_resamples=999, method=method, confidence_level=confidence, rng=np.random.default_rng(5)
    )
    ours = bootstrap_interval(
        make_mean(values), np.ones(n, int), resamples=999, confidence=confidence, seed=5, method=method
    )
    assert ours == pytest.approx(tuple(scipys.confidence_interval), abs=1e-12)


@pytest.mark.slow
def test_pearson_equals_scipy_on_the_same_draws() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    y = x + rng.normal(size=60)
    scipys = stats.bootstrap(
        (x, y),
        lambda a, b: stats.pearsonr(a, b)[0],
        n_resamples=500,
        paired=True,
        vectorized=False,
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert bootstrap_interval(make_pearson(x, y), np.ones(60, int), resamples=500, seed=1) == pytest.approx(
        tuple(scipys), abs=1e-9
    )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_grouped_rows_have_the_interval_of_single_rows(method: IntervalMethod) -> None:
    values, sizes = np.array([0.0, 0.3, 1.0]), np.array([100, 150, 350])
    grouped = bootstrap_interval(make_mean(values), sizes, resamples=20_000, method=method)  # drawn by group
    rows = bootstrap_interval(make_mean(np.repeat(values, sizes)), np.ones(600, int), resamples=20_000, method=method)
    assert grouped == pytest.approx(rows, abs=0.002)


def test_intervals_depend_only_on_the_seed() -> None:
    values = np.random.default_rng(0).normal(size=30)
    first = bootstrap_interval(make_mean(values), np.ones(30, int), seed=3)
    assert first == bootstrap_interval(make_mean(values), np.ones(30, int), seed=3)
    assert first != bootstrap_interval(make_mean(values), np.ones(30, int), seed=4)


@pytest.mark.parametrize("sizes", [np.ones(50, int), np.array([10, 900, 90])], ids=["by row", "by group"])
def test_chunk_size_changes_nothing(sizes: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    values = (np.arange(len(sizes)) % 7).astype(np.float64)
    whole = bootstrap_interval(make_mean(values), sizes)
    monkeypatch.setattr(intervals, "BOOTSTRAP_CHUNK", 130)
    assert bootstrap_interval(make_mean(values), sizes) == pytest.approx(whole, abs=1e-12)


def test_chunks_limit_memory() -> None:
    shapes = []

    def total(counts: Floats) -> Floats:
        shapes.append(counts.shape)
        return counts[:, 0]

    bootstrap_interval(total, np.ones(5000, int), resamples=1000)
    assert max(b * g for b, g in shapes) <= intervals.BOOTSTRAP_CHUNK
    assert sum(b for b, _ in shapes) == 1 + 1000 + intervals.JACKKNIFE_BLOCKS


def test_every_draw_has_n_rows() -> None:
    for sizes in (np.ones(40, int), np.array([300, 5, 95])):
        for counts in intervals.draw_resamples(sizes, 100, 0):
            assert (counts.sum(axis=1) == sizes.sum()).all()


@pytest.mark.parametrize("sizes", [np.ones(3000, int), np.tile([1, 2, 6], 1000)], ids=["rows", "groups"])
def test_block_jackknife_has_the_acceleration_of_the_row_jackknife(
    sizes: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On sorted skewed values; in theory the acceleration of a mean is skew / (6 sqrt(n))."""
    values = np.sort(np.random.default_rng(0).exponential(size=len(sizes)))
    statistic = lambda counts: make_mean(values)(counts)[:, None]  # noqa: E731
    (by_block,) = intervals._compute_accelerations(statistic, sizes)
    monkeypatch.setattr(intervals, "JACKKNIFE_BLOCKS", len(sizes))
    (by_row,) = intervals._compute_accelerations(statistic, sizes)
    repeated = np.repeat(values, sizes)
    assert by_row == pytest.approx(stats.skew(repeated) / (6 * len(repeated) ** 0.5), rel=1e-6)
    assert by_block == pytest.approx(by_row, abs=0.001)


def test_each_row_is_left_out_once() -> None:
    sizes = np.tile([1, 4], 700)
    counts = np.concatenate(list(intervals._leave_block_out(sizes)))
    assert len(counts) == intervals.JACKKNIFE_BLOCKS
    assert (counts >= 0).all()
    assert ((sizes - counts).sum(axis=0) == sizes).all()


def test_several_statistics_share_resamples() -> None:
    values = np.random.default_rng(0).normal(size=40)
    mean, sizes = make_mean(values), np.ones(40, int)
    both = bootstrap_intervals(lambda counts: np.stack([mean(counts), 2 * mean(counts)], axis=1), sizes)
    assert both.shape == (2, 2)
    assert tuple(both[0]) == bootstrap_interval(mean, sizes)
    assert both[1] == pytest.approx(2 * both[0])


def test_equal_rows_have_no_spread() -> None:
    assert bootstrap_interval(make_mean(np.full(9, 0.7)), np.ones(9, int)) == pytest.approx((0.7, 0.7))
    assert bootstrap_interval(make_mean(np.array([0.7])), [9]) == (0.7, 0.7)
    assert bootstrap_interval(make_mean(np.array([0.7])), [1]) == (0.7, 0.7)


def test_undefined_values_have_no_interval() -> None:
    assert np.isnan(bootstrap_interval(make_pearson(np.ones(5), np.arange(5.0)), np.ones(5, int))).all()


def test_undefined_resamples_are_left_out() -> None:
    x, y = np.array([0.0, 0, 0, 1]), np.array([0.0, 1, 0, 3])  # a third of the resamples miss the last row
    low, high = bootstrap_interval(make_pearson(x, y), np.ones(4, int))
    assert -1 <= low <= make_pearson(x, y)(np.ones((1, 4)))[0] <= high <= 1 + 1e-12


def test_values_beyond_all_resamples_get_a_mirrored_interval() -> None:
    """The number of distinct rows is smaller in every resample, which mirroring corrects and BCa does not."""
    low, high = bootstrap_interval(lambda counts: (counts > 0).sum(axis=1) / 100.0, np.ones(100, int))
    assert low == 1.0
    assert 1.25 < high < 1.5


def test_log_methods_mirror_on_a_log_scale() -> None:
    values, ones = np.random.default_rng(0).lognormal(size=80), np.ones(80, int)
    low, high = bootstrap_interval(make_mean(values), ones, method="percentile")
    mirrored = bootstrap_interval(make_mean(values), ones, method="log(x)")
    assert mirrored == pytest.approx((values.mean() ** 2 / high, values.mean() ** 2 / low))
    below_one = bootstrap_interval(lambda counts: 1 - make_mean(values)(counts), ones, method="log(1-x)")
    assert below_one == pytest.approx((1 - mirrored[1], 1 - mirrored[0]))


def test_perfect_resamples_do_not_give_infinite_bounds() -> None:
    """One wrong row of fifty: a third of the resamples miss it."""
    values = np.eye(50)[0]
    assert bootstrap_interval(make_mean(values), np.ones(50, int), method="log(x)")[1] == pytest.approx(4 / 50)
    assert bootstrap_interval(make_mean(0 * values), np.ones(50, int), method="log(x)") == (0.0, 0.0)


def test_each_statistic_can_have_its_own_method() -> None:
    values, ones = np.random.default_rng(0).lognormal(size=40), np.ones(40, int)
    methods: list[IntervalMethod] = ["bca", "inverted", "log(x)"]
    found = bootstrap_intervals(
        lambda counts: np.repeat(make_mean(values)(counts)[:, None], 3, axis=1), ones, method=methods
    )
    assert tuple(found[0]) == bootstrap_interval(make_mean(values), ones)
    assert np.isnan(found[1]).all()
    assert tuple(found[2]) == bootstrap_interval(make_mean(values), ones, method="log(x)")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([0.0, 0.1, 0.5, 1.0, -3.0, 1e6]), min_size=1, max_size=12),
    st.integers(1, 400),
    st.sampled_from(["bca", "percentile", "log(x)", "log(1-x)"]),
)
def test_intervals_contain_the_value(values: list[float], size: int, method: IntervalMethod) -> None:
    rows, sizes = np.array(values), np.full(len(values), size)
    value = make_mean(rows)(sizes[None].astype(float))[0]
    low, high = bootstrap_interval(make_mean(rows), sizes, resamples=100, method=method)
    assert low <= value <= high
