"""How often the 95 % intervals of the scores of generated text hold the true value, by simulation.

A pool of made-up references and answers (Zipf's words, lengths as log-normal as real ones are, answers that keep, drop,
swap and repeat words) stands for all texts there are, so that the true value is known: the score of the pool itself.
Each trial draws rows from it, and counts whether the interval that those rows give holds that value. Pools differ in
how long the texts are (titles, sentences, paragraphs) and in how much of the reference an answer has.

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

WORDS = 5000
LENGTHS = {"titles": 7, "sentences": 18, "paragraphs": 45}  # words, the median
KEPT = (0.3, 0.6, 0.9)  # the mean share of its words that an answer takes from its reference
LONGEST = 25  # words for TER, whose cost grows with the cube of the length
Point = tuple[str, float]


def made(rng: np.random.Generator, kind: str, kept: float, n: int) -> tuple[list[list[str]], list[str], list[str]]:
    """References, answers and sources of n rows; how good an answer is differs from row to row."""
    zipf = 1 / np.arange(1, WORDS + 1)
    words = np.array([f"w{i}" for i in range(WORDS)])
    zipf /= zipf.sum()

    def drawn(number: int) -> list[str]:
        return words[rng.choice(WORDS, size=number, p=zipf)].tolist()

    references, answers, sources = [], [], []
    for _ in range(n):
        true = drawn(max(1, int(rng.lognormal(np.log(LENGTHS[kind]), 0.4))))
        keep = rng.beta(4 * kept, 4 * (1 - kept))
        said = [word if rng.random() < keep else drawn(1)[0] for word in true if rng.random() < 0.9]
        if said and rng.random() < 0.2:
            cut = int(rng.integers(len(said)))
            said = said[cut:] + said[:cut]
        if said and rng.random() < 0.1:
            said += said[-4:]
        references.append([" ".join(true)])
        answers.append(" ".join(said))
        sources.append(" ".join(drawn(20) + true[: len(true) // 2] + said[: len(said) // 2] + drawn(20)))
    return references, answers, sources


def of_pool(
    kind: str, kept: float, pool: int, asked: Sequence[str]
) -> tuple[list[str], Statistic, dict[str, tuple[float, float]]]:
    """The names of the metrics, their function from counts [B, pool] to values [B, M], and their limits."""
    rows = made(np.random.default_rng([len(kind), round(100 * kept)]), kind, kept, pool)
    possible = [name for name in translation.TRANSLATION_METRICS if name != "ter" or LENGTHS[kind] <= LONGEST]
    theirs = [name for name in possible if name in asked and name not in summarization.SUMMARY_METRICS]
    own = [name for name in summarization.SUMMARY_METRICS if name in asked]
    makers = [(summarization.make_summary_statistic, own), (translation.make_translation_statistic, theirs)]
    parts = [make(names, *rows, False) for make, names in makers if names]
    limits = summarization.SUMMARY_LIMITS | translation.TRANSLATION_LIMITS
    return [*own, *theirs], lambda counts: np.hstack([part(counts) for part in parts]), limits


def coverage(kind: str, kept: float, trials: int, n: int, pool: int, asked: Sequence[str]) -> dict[str, float]:
    """The share of `trials` draws of n rows of the pool whose interval holds the pool's own value, by metric."""
    names, statistic, limits = of_pool(kind, kept, pool, asked)
    target = statistic(np.ones((1, pool)))[0]
    rng = np.random.default_rng(0)
    held = np.zeros(len(names))
    for trial in range(trials):
        chosen = np.sort(rng.integers(pool, size=n))
        place = csr_array((np.ones(n), (np.arange(n), chosen)), shape=(n, pool))

        def drawn(counts: Floats, place: csr_array = place) -> Floats:
            return statistic(counts @ place)

        otherwise = make_flip_rows(names, drawn, n, limits)
        scores = score_rows(names, drawn, n, names, limits=limits, seed=trial, flip_rows=otherwise)
        held += [scores[name].low <= value <= scores[name].high for name, value in zip(names, target, strict=True)]
    return dict(zip(names, (held / trials).tolist(), strict=True))


def table(points: Sequence[Point], found: Sequence[dict[str, float]]) -> str:
    """A Markdown table: mean coverage and worst pool, by metric."""
    lines = ["| metric | mean coverage | worst pool | where |", "|---|---|---|---|"]
    for name in dict.fromkeys(name for one in found for name in one):
        shares = {point: one[name] for point, one in zip(points, found, strict=True) if name in one}
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
    given = parser.parse_args()
    points = list(product(LENGTHS, KEPT))
    with ProcessPoolExecutor(given.processes) as processes:
        how = (given.trials, given.rows, given.pool, given.metrics)
        work = [processes.submit(coverage, *point, *how) for point in points]
        found = [one.result() for one in work]
    print(f"Coverage of 95 % intervals at n = {given.rows}, {given.trials:,} draws from each of {len(points)} pools:\n")
    print(table(points, found))


if __name__ == "__main__":
    main()
