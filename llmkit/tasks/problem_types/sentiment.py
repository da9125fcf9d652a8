"""Problem types of sentiment analysis: ordered classes with a tuned threshold or a neutral band, or a score.

With two classes, one or two thresholds of the positive probability decide. Two are the ends of a neutral band: a text
is negative below the first, positive from the second on, and neutral between them, although the model has no neutral
class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.data.labels.sentiment import NEGATIVE, NEUTRAL, POSITIVE, SENTIMENT_POLARITY, SENTIMENTS, look_up_sentiment
from llmkit.data.row_errors import pluralize
from llmkit.errors import DataError, ModelError
from llmkit.metrics.classification import single_label
from llmkit.tasks.base import Prediction
from llmkit.tasks.problem_types.regression import Regression
from llmkit.tasks.problem_types.single import SingleLabel, read_label_names
from llmkit.tasks.problem_types.thresholds import (
    EVEN_THRESHOLD,
    MIN_CLASS_ROWS,
    assign_classes,
    compute_macro_f1,
    find_band_of_share,
    find_neutral_band,
    find_sentiment_threshold,
    has_enough_rows,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows

CLASSES_BY_COUNT = {2: (NEGATIVE, POSITIVE), 3: (NEGATIVE, NEUTRAL, POSITIVE), 5: SENTIMENTS}


class SentimentClasses(SingleLabel):
    """Each text has one sentiment class. `options` is the recipe's `sentiment:` section."""

    section = "sentiment"
    thresholds: Sequence[
        float
    ] = ()  # of the positive probability with two classes; if empty, the most probable class wins
    calibration_note = ""  # result of calibration
    merged_outputs: Sequence[Sequence[int]] = ()  # indices of the model outputs that are summed for each label

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.has_neutral_band = options.neutral not in ("refuse", "drop")
        self.needs_calibration = options.threshold == "tuned" or self.has_neutral_band
        self.known_metrics = list_sentiment_metrics(self.has_neutral_band)

    @property
    def prediction_labels(self) -> Sequence[str]:
        """Return the words that can be predicted: with a neutral band also neutral."""
        return [self.labels[0], NEUTRAL, self.labels[1]] if self.has_neutral_band and self.labels else self.labels

    def order_labels(self, train: Rows) -> list[str]:
        return [word for word in SENTIMENTS if word in set(train.texts("label"))]

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        notes = super().fit(train, others)
        self.check_requested_classes(train)
        if not is_binary_sentiment(self.labels):
            if self.has_neutral_band:
                what = f"{train.name}: sentiment.neutral needs a model of two classes, and train has "
                raise DataError(what + ", ".join(self.labels), "set sentiment.classes=2, or leave it out")
            self.needs_calibration, self.thresholds = False, ()
            return notes
        threshold, neutral = self.options.threshold, self.options.neutral
        self.thresholds = [EVEN_THRESHOLD if threshold == "tuned" else threshold]
        if self.has_neutral_band:
            self.thresholds = list(neutral) if isinstance(neutral, list) else [EVEN_THRESHOLD, EVEN_THRESHOLD]
            self.needs_calibration = not isinstance(neutral, list)
        return notes

    def check_requested_classes(self, train: Rows) -> None:
        """Raise DataError if a requested class has no row."""
        missing = [word for word in CLASSES_BY_COUNT.get(self.options.classes, ()) if word not in self.labels]
        if missing:
            what = f"{train.name}: sentiment.classes={self.options.classes}, and no row of train is {missing[0]}"
            raise DataError(what, "leave it out to learn the classes in the data")

    def load_config(self, config: PreTrainedConfig) -> None:
        names = read_label_names(config)
        words = [look_up_sentiment(label, {}) for label in names]
        known = None not in words and len(set(words)) == len(words)  # other tools write POSITIVE, or 5 stars
        self.labels = [str(word) for word in words] if known else names
        self.thresholds = read_stored_thresholds(config) or (
            [EVEN_THRESHOLD] if is_binary_sentiment(self.labels) else []
        )
        if self.thresholds and not is_binary_sentiment(self.labels):
            raise ModelError("the model's config has a threshold for two classes", "fix its 'sentiment' field")
        self.has_neutral_band = len(self.thresholds) > 1
        self.known_metrics = list_sentiment_metrics(self.has_neutral_band)

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        position = {label: i for i, label in enumerate(self.labels)}
        if self.has_neutral_band:  # neutral rows are scored, never trained on
            position.setdefault(NEUTRAL, -100)
        return [position[label] for label in references]

    def merge_strengths(self) -> None:
        """Predict without `very` from now on: very positive counts as positive, very negative as negative."""
        plain = [SENTIMENT_POLARITY.get(label, label) for label in self.labels]
        self.labels = list(dict.fromkeys(plain))
        self.merged_outputs = [[i for i, word in enumerate(plain) if word == label] for label in self.labels]

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        if self.merged_outputs:
            import numpy as np

            outputs = [np.array([row[part].sum() for part in self.merged_outputs]) for row in outputs]
        return [
            self.apply_thresholds(one.probabilities or {}) if self.thresholds else one
            for one in super().decode(outputs)
        ]

    def apply_thresholds(self, probabilities: Mapping[str, float]) -> Prediction:
        """Predict a class from the probabilities of two classes."""
        negative, positive = sorted(self.labels, key=get_sentiment_rank)
        if probabilities[positive] < self.thresholds[0]:
            return Prediction(negative, probabilities)
        return Prediction(positive if probabilities[positive] >= self.thresholds[-1] else NEUTRAL, probabilities)

    def decision_rule(self) -> str:
        """See `Task.decision_rule`."""
        if not self.thresholds or set(self.thresholds) == {EVEN_THRESHOLD}:
            return ""
        positive, (low, high) = max(self.labels, key=get_sentiment_rank), (self.thresholds[0], self.thresholds[-1])
        if len(self.thresholds) > 1:
            return f"{NEUTRAL} at a {positive} probability from {low:.3f} to {high:.3f} (stored with the model)"
        return f"{positive} from a probability of {high:.3f}, not 0.5 (stored with the model)"

    def calibrate(self, references: Sequence[Any], predictions: Sequence[Prediction]) -> Sequence[Prediction]:
        if not self.needs_calibration:
            return predictions
        import numpy as np

        negative, positive = sorted(self.labels, key=get_sentiment_rank)
        probabilities = np.array([one.probabilities[positive] for one in predictions if one.probabilities])
        signs = np.array([(negative, NEUTRAL, positive).index(one) - 1 for one in references])
        neutral, threshold = self.options.neutral, self.options.threshold
        self.thresholds = [find_sentiment_threshold(signs, probabilities) if threshold == "tuned" else threshold]
        if neutral == "tuned":
            self.thresholds = find_neutral_band(signs, probabilities)
        elif self.has_neutral_band:
            self.thresholds = find_band_of_share(self.thresholds[0], probabilities, neutral)
        self.calibration_note = self.describe_calibration(signs, probabilities)
        return [self.apply_thresholds(one.probabilities or {}) for one in predictions]

    def describe_calibration(self, references: Any, probabilities: Any) -> str:
        """Describe the effect of the thresholds on the validation rows; arguments as in `find_neutral_band`."""
        predicted = assign_classes(probabilities, self.thresholds)
        if not self.has_neutral_band:
            if not has_enough_rows(references):
                return f"validation has fewer than {MIN_CLASS_ROWS} rows of a class: the threshold stays at 0.5"
            before = compute_macro_f1(references, assign_classes(probabilities, [EVEN_THRESHOLD]))
            after = compute_macro_f1(references, predicted)
            at_even = self.thresholds[0] == EVEN_THRESHOLD
            comparison = "no other is better by a standard error" if at_even else f"{before:.3f} at 0.5"
            return f"threshold {self.thresholds[0]:.3f}: macro F1 {after:.3f} on validation, {comparison}"
        low, high = self.thresholds
        decided = predicted != 0
        right = f"{(predicted == references)[decided].mean():.1%} of the others right" if decided.any() else "no other"
        share = f"{1 - decided.mean():.1%} of {pluralize(len(references), 'validation row')}"
        return f"neutral at a {POSITIVE} probability from {low:.3f} to {high:.3f}: {share}, {right}"

    def stored_fields(self) -> dict[str, Any]:
        """Return the fields that a model's config stores with the class names."""
        return {"thresholds": list(self.thresholds)} if self.thresholds else {}


class SentimentScore(Regression):
    """Each text has a score; with a neutral band each prediction also has a sentiment word."""

    section = "sentiment"
    thresholds: Sequence[float] = ()
    calibration_note = ""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.thresholds = options.neutral if isinstance(options.neutral, list) else ()

    def load_config(self, config: PreTrainedConfig) -> None:
        super().load_config(config)
        self.thresholds = read_stored_thresholds(config)

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        predictions = super().decode(outputs)
        if not self.thresholds:
            return predictions
        low, high = self.thresholds

        def word(number: float) -> str:
            return NEGATIVE if number < low else POSITIVE if number > high else NEUTRAL

        return [Prediction(one.value, extra={"sentiment": word(one.value)}) for one in predictions]

    def stored_fields(self) -> dict[str, Any]:
        """Return the fields that a model's config stores with the name of the score."""
        return {"thresholds": list(self.thresholds)} if self.thresholds else {}


def list_sentiment_metrics(has_neutral_band: bool) -> tuple[str, ...]:
    """List the known metrics; with a neutral band those of predicted classes only, as neutral has no probability."""
    return single_label.CLASSIFICATION_METRICS if has_neutral_band else SingleLabel.known_metrics


def get_sentiment_rank(word: str) -> int:
    """Return the position of a sentiment word from very negative to very positive."""
    return SENTIMENTS.index(word)


def is_binary_sentiment(labels: Sequence[str]) -> bool:
    """Whether the labels are one negative and one positive word."""
    return {SENTIMENT_POLARITY.get(label, label) for label in labels} == {NEGATIVE, POSITIVE} and len(labels) == 2


def read_stored_thresholds(config: PreTrainedConfig) -> list[float]:
    """Read the thresholds of a saved model's config. Raises ModelError if they are not one or two ascending numbers."""
    section = getattr(config, "sentiment", None) or {}
    thresholds: list[Any] = section.get("thresholds", []) if isinstance(section, dict) else [None]
    if (
        not all(type(one) in (int, float) for one in thresholds)
        or len(thresholds) > 2
        or list(thresholds) != sorted(thresholds)
    ):
        raise ModelError("the thresholds in the model's config are not ascending numbers", "fix its 'sentiment' field")
    return [float(one) for one in thresholds]
