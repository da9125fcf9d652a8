"""Any number of labels, also none: each label is said where its probability reaches its threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from math import log
from typing import TYPE_CHECKING, Any

from llmkit.data.row_errors import pluralize
from llmkit.errors import DataError, ModelError, suggest_spelling
from llmkit.metrics import Score
from llmkit.metrics.classification import multilabel
from llmkit.tasks.base import Prediction, Strata
from llmkit.tasks.problem_types import ProblemType, build_output_config, stack_probabilities, to_shortest_floats
from llmkit.tasks.problem_types.single import check_probabilities, list_class_weights, read_label_names

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows

DEFAULT_LABEL_THRESHOLD = 0.5
MIN_LABEL_ROWS = (
    5  # rows with and without a label: from fewer its own threshold would be chance, and it takes the common one
)


class MultiLabel(ProblemType):
    """Each text has any number of labels."""

    name = "multi_label_classification"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy")
    known_metrics = multilabel.MULTILABEL_METRICS
    lower_is_better = multilabel.MULTILABEL_LOWER_IS_BETTER
    baselines = ("majority", "tfidf")
    cell_types = ("a list", "text")

    weights: list[float] | None = None
    label_shares: Sequence[float] = ()  # of the training rows, by label
    thresholds: Sequence[float] = ()

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.needs_calibration = options.thresholds in ("common", "each")

    def stratify_by(self, rows: Rows) -> Strata:
        from llmkit.data.labels import cells, single

        sets = self.references(rows)
        single.check_distinct_labels(rows, "label", sets)
        return Strata(cells.find_rarest_labels(sets), sets)

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        from llmkit.data.labels import single

        sets = self.references(train)
        notes = self.note_repeated_labels(train)
        notes += single.check_label_sets(
            sets, train, {name: (self.references(rows), rows) for name, rows in others.items()}
        )
        self.labels = single.collect_set_label_names(sets)
        counts = Counter(label for some in sets for label in some)
        self.weights = self.compute_class_weights(counts, len(sets))
        self.label_shares = [(counts[label] + DEFAULT_LABEL_THRESHOLD) / (len(sets) + 1) for label in self.labels]
        self.thresholds = self.build_initial_thresholds()
        return notes

    def compute_class_weights(self, counts: Mapping[str, int], rows: int) -> list[float] | None:
        """How much a row with the label counts against one without, by label; None where all count the same."""
        wanted = self.options.class_weights
        if wanted == "none":
            return None
        if wanted == "balanced":
            return [(rows - counts[label]) / counts[label] or 1.0 for label in self.labels]
        return list_class_weights(wanted, self.labels)

    def build_initial_thresholds(self) -> list[float]:
        """The thresholds before any are tuned."""
        wanted = self.options.thresholds
        if not isinstance(wanted, dict):
            return [wanted if isinstance(wanted, float) else DEFAULT_LABEL_THRESHOLD] * len(self.labels)
        for label in wanted:
            if label not in self.labels:
                what = f"classify.thresholds: no label '{label}' in the training rows"
                raise DataError(what, suggest_spelling(label, self.labels))
        return [wanted.get(label, DEFAULT_LABEL_THRESHOLD) for label in self.labels]

    def load_config(self, config: PreTrainedConfig) -> None:
        self.labels = read_label_names(config)
        stored = getattr(config, "thresholds", None)
        stored = [DEFAULT_LABEL_THRESHOLD] * len(self.labels) if stored is None else stored
        shares = isinstance(stored, list) and all(type(one) in (int, float) and 0 <= one <= 1 for one in stored)
        if not shares or len(stored) != len(self.labels):
            raise ModelError("the thresholds in config.json are not one share a label", "mend or remove them")
        self.thresholds = [float(one) for one in stored]

    def config_fields(self) -> dict[str, Any]:
        return build_output_config(self.labels, self.name) | {"thresholds": list(self.thresholds)}

    def output_bias_init(self) -> list[float] | None:
        # From even chances a model of many rare labels spends its first epochs on saying no to all of them.
        weights = self.weights or [1.0] * len(self.label_shares)
        return [log(weight * p / (1 - p)) for weight, p in zip(weights, self.label_shares, strict=True)] or None

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        return [[float(label in some) for label in self.labels] for some in map(set, references)]

    def to_tensor(self, targets: Sequence[Any]) -> torch.Tensor:
        import torch

        return torch.tensor(targets, dtype=torch.float32)

    def loss(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        from torch.nn.functional import binary_cross_entropy_with_logits

        smooth = self.options.label_smoothing
        weight = None if self.weights is None else logits.new_tensor(self.weights)
        return binary_cross_entropy_with_logits(
            logits, targets * (1 - smooth) + smooth / 2, pos_weight=weight, reduction="sum"
        )

    def activate(self, logits: torch.Tensor) -> torch.Tensor:
        return logits.sigmoid()

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        check_probabilities(outputs)
        return [self.apply_thresholds(dict(zip(self.labels, to_shortest_floats(row), strict=True))) for row in outputs]

    def apply_thresholds(self, probabilities: Mapping[str, float]) -> Prediction:
        """What is said of a row with these probabilities."""
        lowest = dict(zip(self.labels, self.thresholds, strict=True))
        return Prediction([label for label, p in probabilities.items() if p >= lowest[label]], probabilities)

    def calibrate(self, references: Sequence[Any], answers: Sequence[Prediction]) -> Sequence[Prediction]:
        if self.needs_calibration:
            import numpy as np

            truth = np.array(self.encode_targets(references), dtype=bool)
            self.thresholds = tune_label_thresholds(
                truth, stack_probabilities(answers, self.labels), self.options.thresholds == "each"
            )
        return [self.apply_thresholds(one.probabilities or {}) for one in answers]

    def references(self, rows: Rows) -> list[list[str]]:
        from llmkit.data.labels import cells

        return [list(dict.fromkeys(some)) for some in cells.parse_label_sets(rows, self.options.separator)]

    def note_repeated_labels(self, train: Rows) -> list[str]:
        """A note where rows have a label twice."""
        from llmkit.data.labels import cells

        sets = cells.parse_label_sets(train, self.options.separator)
        twice = [row for row, some in enumerate(sets) if len(set(some)) < len(some)]
        return (
            [
                f"a label stands twice in {pluralize(len(twice), 'row')} of train ({train.location(twice[0])}): it counts once"
            ]
            if twice
            else []
        )

    def score(self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]) -> dict[str, Score]:
        said = [one.value for one in answers]
        return multilabel.score_multilabel(
            names, references, said, self.labels, stack_probabilities(answers, self.labels)
        )

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], answers: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        said = [one.value for one in answers]
        return multilabel.make_multilabel_statistic(
            names, references, said, self.labels, stack_probabilities(answers, self.labels)
        )


def tune_label_thresholds(truth: Any, probabilities: Any, each: bool) -> list[float]:
    """The thresholds by label that make F1 on these rows the best; `truth` (bool) and `probabilities` [rows, labels].

    One for all labels together, or with `each` one of its own for each label with enough rows.
    """
    common = find_best_f1_threshold(truth.ravel(), probabilities.ravel())
    if not each:
        return [common] * truth.shape[1]
    enough = (truth.sum(axis=0) >= MIN_LABEL_ROWS) & ((~truth).sum(axis=0) >= MIN_LABEL_ROWS)
    return [
        find_best_f1_threshold(truth[:, k], probabilities[:, k]) if enough[k] else common for k in range(truth.shape[1])
    ]


def find_best_f1_threshold(truth: Any, probabilities: Any) -> float:
    """The threshold with the best F1, half way to the next lower probability; of equals the highest. 0.5 without truth.

    Source: every cut between two sorted probabilities is tried, so that the optimum is exact.
    """
    import numpy as np

    if not truth.any():
        return DEFAULT_LABEL_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    falling, hits = probabilities[order], np.cumsum(truth[order])
    last_of_equals = np.append(falling[1:] < falling[:-1], True)
    f1 = np.where(last_of_equals, 2 * hits / (np.arange(1, len(hits) + 1) + truth.sum()), -1.0)
    cut = int(f1.argmax())
    below = falling[cut + 1] if cut + 1 < len(falling) else 0.0
    return float((falling[cut] + below) / 2)
