"""CPU seconds of all eleven classification scores with their intervals: python benchmarks/intervals.py."""

from __future__ import annotations

import time

import numpy as np

from llmkit.metrics.classification.single_label import CLASSIFICATION_METRICS, score_classification

ROWS, ACCURACY = 10_000, 0.8


def main() -> None:
    """Print one row a number of labels; a first call, which imports scikit-learn, is not measured."""
    rng = np.random.default_rng(0)
    print("| labels | CPU s for 10,000 rows |\n|---|---|")
    score_classification(CLASSIFICATION_METRICS, ["a", "b"], ["a", "a"], ["a", "b"])
    for labels in (2, 20, 150, 1000):
        names = [str(i) for i in range(labels)]
        true = rng.integers(0, labels, ROWS)
        predicted = np.where(rng.random(ROWS) < ACCURACY, true, rng.integers(0, labels, ROWS))
        references, predictions = [names[i] for i in true], [names[i] for i in predicted]
        start = time.process_time()
        score_classification(CLASSIFICATION_METRICS, references, predictions, names)
        seconds = time.process_time() - start
        print(f"| {labels:,} | {seconds:.2f} |")


if __name__ == "__main__":
    main()
