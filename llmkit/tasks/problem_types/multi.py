"""The multi-label problem type: a label is predicted if its probability reaches the label's threshold."""

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
MIN_LABEL_ROWS = 5  # rows with and without a label; with fewer a threshold of its own would be noise


class MultiLabel(ProblemType):
    """Each text has any number of labels, or none."""

    name = "multi_label_classification"
    metrics = ("micro_f1", "macro_f1", "subset_accuracy")
    known_metrics = multilabel.MULTILABEL_METRICS
    lower_is_better = multilabel.MULTILABEL_LOWER_IS_BETTER
    baselines = ("majority", "tfidf")
    cell_types = ("a list", "text")

    weights: list[float] | None = None
    label_shares: Sequence[float] = ()  # share of the training rows that have each label
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
        self.label_shares = [(counts[label] + 0.5) / (len(sets) + 1) for label in self.labels]
        self.thresholds = self.build_initial_thresholds()
        return notes

    def compute_class_weights(self, counts: Mapping[str, int], rows: int) -> list[float] | None:
        """Return the loss weight of a row with the label, relative to one without, by label; None if all are 1."""
        requested = self.options.class_weights
        if requested == "none":
            return None
        if requested == "balanced":
            return [(rows - counts[label]) / counts[label] or 1.0 for label in self.labels]
        return list_class_weights(requested, self.labels)

    def build_initial_thresholds(self) -> list[float]:
        """Build the thresholds that apply before calibration."""
        requested = self.options.thresholds
        if not isinstance(requested, dict):
            return [requested if isinstance(requested, float) else DEFAULT_LABEL_THRESHOLD] * len(self.labels)
        for label in requested:
            if label not in self.labels:
                what = f"classify.thresholds: no label '{label}' in the training rows"
                raise DataError(what, suggest_spelling(label, self.labels))
        return [requested.get(label, DEFAULT_LABEL_THRESHOLD) for label in self.labels]

    def load_config(self, config: PreTrainedConfig) -> None:
        self.labels = read_label_names(config)
        stored = getattr(config, "thresholds", None)
        stored = [DEFAULT_LABEL_THRESHOLD] * len(self.labels) if stored is None else stored
        valid = isinstance(stored, list) and all(type(one) in (int, float) and 0 <= one <= 1 for one in stored)
        if not valid or len(stored) != len(self.labels):
            what = "the thresholds in config.json are not one number from 0 to 1 per label"
            raise ModelError(what, "fix or remove them")
        self.thresholds = [float(one) for one in stored]

    def config_fields(self) -> dict[str, Any]:
        return build_output_config(self.labels, self.name) | {"thresholds": list(self.thresholds)}

    def output_bias_init(self) -> list[float] | None:
        # From probability 0.5 a model of many rare labels spends its first epochs on predicting none of them.
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
        """Predict the labels whose probability reaches their threshold."""
        thresholds = dict(zip(self.labels, self.thresholds, strict=True))
        return Prediction([label for label, p in probabilities.items() if p >= thresholds[label]], probabilities)

    def calibrate(self, references: Sequence[Any], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        if self.needs_calibration:
            import numpy as np

            targets = np.array(self.encode_targets(references), dtype=bool)
            probabilities = stack_probabilities(predictions, self.labels)
            self.thresholds = tune_label_thresholds(targets, probabilities, self.options.thresholds == "each")
        return [self.apply_thresholds(one.probabilities or {}) for one in predictions]

    def references(self, rows: Rows) -> list[list[str]]:
        from llmkit.data.labels import cells

        return [list(dict.fromkeys(some)) for some in cells.parse_label_sets(rows, self.options.separator)]

    def note_repeated_labels(self, train: Rows) -> list[str]:
        """Return a note if rows have a label twice."""
        from llmkit.data.labels import cells

        sets = cells.parse_label_sets(train, self.options.separator)
        repeated = [row for row, some in enumerate(sets) if len(set(some)) < len(some)]
        if not repeated:
            return []
        where = f"{pluralize(len(repeated), 'row')} of train ({train.location(repeated[0])})"
        return [f"a label is repeated in {where}: it counts once"]

    def score(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> dict[str, Score]:
        values = [one.value for one in predictions]
        probabilities = stack_probabilities(predictions, self.labels)
        return multilabel.score_multilabel(names, references, values, self.labels, probabilities)

    def statistic(
        self, names: Sequence[str], references: Sequence[Any], predictions: Sequence[Prediction]
    ) -> Callable[[Any], Any]:
        values = [one.value for one in predictions]
        probabilities = stack_probabilities(predictions, self.labels)
        return multilabel.make_multilabel_statistic(names, references, values, self.labels, probabilities)


def tune_label_thresholds(targets: Any, probabilities: Any, each: bool) -> list[float]:
    """Tune thresholds for the best F1; `targets` (bool) and `probabilities` are [rows, labels]. One value per label.

    The threshold is common to all labels, or with `each` separate for each label with MIN_LABEL_ROWS rows.
    """
    common = find_best_f1_threshold(targets.ravel(), probabilities.ravel())
    if not each:
        return [common] * targets.shape[1]
    enough = (targets.sum(axis=0) >= MIN_LABEL_ROWS) & ((~targets).sum(axis=0) >= MIN_LABEL_ROWS)
    return [
        find_best_f1_threshold(targets[:, k], probabilities[:, k]) if enough[k] else common
        for k in range(targets.shape[1])
    ]


def find_best_f1_threshold(targets: Any, probabilities: Any) -> float:
    """Find the threshold with the best F1; the highest among equals, 0.5 if no target is true.

    Exact: every cut between two sorted probabilities is tried. The threshold is the midpoint to the next lower one.
    """
    import numpy as np

    if not targets.any():
        return DEFAULT_LABEL_THRESHOLD
    order = np.argsort(-probabilities, kind="stable")
    descending, hits = probabilities[order], np.cumsum(targets[order])
    last_of_equals = np.append(descending[1:] < descending[:-1], True)
    f1 = np.where(last_of_equals, 2 * hits / (np.arange(1, len(hits) + 1) + targets.sum()), -1.0)
    cut = int(f1.argmax())
    below = descending[cut + 1] if cut + 1 < len(descending) else 0.0
    return float((descending[cut] + below) / 2)
