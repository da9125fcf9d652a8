"""CPU seconds of all eleven classification scores with their intervals: python benchmarks/intervals.py."""

from __future__ import annotations

import time

import numpy as np

from llmkit.metrics.classification.single_label import CLASSIFICATION_METRICS, score_classification

ROWS, RIGHT = 10_000, 0.8


def main() -> None:
    """Print one row a number of labels; a first call, which loads scikit-learn, is not counted."""
    chance = np.random.default_rng(0)
    print("| labels | CPU s for 10,000 rows |\n|---|---|")
    score_classification(CLASSIFICATION_METRICS, ["a", "b"], ["a", "a"], ["a", "b"])
    for labels in (2, 20, 150, 1000):
        names = [str(i) for i in range(labels)]
        true = chance.integers(0, labels, ROWS)
        said = np.where(chance.random(ROWS) < RIGHT, true, chance.integers(0, labels, ROWS))
        references, answers = [names[i] for i in true], [names[i] for i in said]
        start = time.process_time()
        score_classification(CLASSIFICATION_METRICS, references, answers, names)
        seconds = time.process_time() - start
        print(f"| {labels:,} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
