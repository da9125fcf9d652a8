"""Simulates how often the 95 % intervals of scores of generated text contain the true value.

A pool of synthetic references and predictions (Zipf-distributed words, log-normal lengths, predictions that keep, drop,
swap and repeat words) represents the population, so that the true value is known: the score of the pool itself. Each
trial draws rows from the pool and counts whether their interval contains that value. Pools differ in the length of the
texts (titles, sentences, paragraphs) and in the share of the reference that a prediction has.

    python benchmarks/text_coverage.py [--trials 300] [--rows 500] [--pool 2000] [--processes 2] [--metrics rougeL bleu]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import product

import numpy as np
from scipy.sparse import csr_array

from llmkit.metrics.intervals import Floats, Statistic
from llmkit.metrics.rows import make_flip_rows, score_rows
from llmkit.metrics.text import summarization, translation

VOCABULARY_SIZE = 5000
LENGTHS = {"titles": 7, "sentences": 18, "paragraphs": 45}  # words, the median
KEPT = (0.3, 0.6, 0.9)  # the mean share of words that a prediction takes from its reference
MAX_TER_LENGTH = 25  # words: the cost of TER grows with the cube of the length
Point = tuple[str, float]


def make_rows(rng: np.random.Generator, kind: str, kept: float, n: int) -> tuple[list[list[str]], list[str], list[str]]:
    """Make references, predictions and sources of n rows; the quality of predictions differs between rows."""
    zipf = 1 / np.arange(1, VOCABULARY_SIZE + 1)
    words = np.array([f"w{i}" for i in range(VOCABULARY_SIZE)])
    zipf /= zipf.sum()

    def draw_words(number: int) -> list[str]:
        return words[rng.choice(VOCABULARY_SIZE, size=number, p=zipf)].tolist()

    references, predictions, sources = [], [], []
    for _ in range(n):
        reference = draw_words(max(1, int(rng.lognormal(np.log(LENGTHS[kind]), 0.4))))
        keep = rng.beta(4 * kept, 4 * (1 - kept))
        predicted = [word if rng.random() < keep else draw_words(1)[0] for word in reference if rng.random() < 0.9]
        if predicted and rng.random() < 0.2:
            cut = int(rng.integers(len(predicted)))
            predicted = predicted[cut:] + predicted[:cut]
        if predicted and rng.random() < 0.1:
            predicted += predicted[-4:]
        references.append([" ".join(reference)])
        predictions.append(" ".join(predicted))
        shared = reference[: len(reference) // 2] + predicted[: len(predicted) // 2]
        sources.append(" ".join(draw_words(20) + shared + draw_words(20)))
    return references, predictions, sources


def make_pool_statistic(
    kind: str, kept: float, pool: int, requested: Sequence[str]
) -> tuple[list[str], Statistic, dict[str, tuple[float, float]]]:
    """Return the names of the metrics, the function from counts [B, pool] to values [B, M], and their limits."""
    rows = make_rows(np.random.default_rng([len(kind), round(100 * kept)]), kind, kept, pool)
    possible = [name for name in translation.TRANSLATION_METRICS if name != "ter" or LENGTHS[kind] <= MAX_TER_LENGTH]
    translation_names = [name for name in possible if name in requested and name not in summarization.SUMMARY_METRICS]
    summary_names = [name for name in summarization.SUMMARY_METRICS if name in requested]
    makers = [
        (summarization.make_summary_statistic, summary_names),
        (translation.make_translation_statistic, translation_names),
    ]
    parts = [make(names, *rows, False) for make, names in makers if names]
    limits = summarization.SUMMARY_LIMITS | translation.TRANSLATION_LIMITS
    return [*summary_names, *translation_names], lambda counts: np.hstack([part(counts) for part in parts]), limits


def measure_coverage(
    kind: str, kept: float, trials: int, n: int, pool: int, requested: Sequence[str]
) -> dict[str, float]:
    """Return by metric the share of `trials` draws of n rows whose interval contains the value of the pool."""
    names, statistic, limits = make_pool_statistic(kind, kept, pool, requested)
    target = statistic(np.ones((1, pool)))[0]
    rng = np.random.default_rng(0)
    covered = np.zeros(len(names))
    for trial in range(trials):
        chosen = np.sort(rng.integers(pool, size=n))
        sample = csr_array((np.ones(n), (np.arange(n), chosen)), shape=(n, pool))

        def resample(counts: Floats, sample: csr_array = sample) -> Floats:
            return statistic(counts @ sample)

        flip_rows = make_flip_rows(names, resample, n, limits)
        scores = score_rows(names, resample, n, names, limits=limits, seed=trial, flip_rows=flip_rows)
        covered += [scores[name].low <= value <= scores[name].high for name, value in zip(names, target, strict=True)]
    return dict(zip(names, (covered / trials).tolist(), strict=True))


def format_table(points: Sequence[Point], results: Sequence[dict[str, float]]) -> str:
    """Format a Markdown table: mean coverage and worst pool, by metric."""
    lines = ["| metric | mean coverage | worst pool | where |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for one in results for name in one):
        shares = {point: one[name] for point, one in zip(points, results, strict=True) if name in one}
        worst = max(shares, key=lambda point: abs(shares[point] - 0.95))
        where = ", ".join(map(str, worst))
        lines.append(f"| {name} | {np.mean(list(shares.values())):.1%} | {shares[worst]:.1%} | {where} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=300, help="draws from each pool")
    parser.add_argument("--rows", type=int, default=500, help="rows of a draw")
    parser.add_argument("--pool", type=int, default=2000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--metrics", nargs="+", default=[*summarization.SUMMARY_METRICS, "bleu", "ter"])
    args = parser.parse_args()
    points = list(product(LENGTHS, KEPT))
    with ProcessPoolExecutor(args.processes) as processes:
        settings = (args.trials, args.rows, args.pool, args.metrics)
        work = [processes.submit(measure_coverage, *point, *settings) for point in points]
        results = [one.result() for one in work]
    print(f"Coverage of 95 % intervals at n = {args.rows}, {args.trials:,} draws from each of {len(points)} pools:\n")
    print(format_table(points, results))


if __name__ == "__main__":
    main()
