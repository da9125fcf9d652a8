"""A sentiment: single classes in the order of their words, or a number with a neutral band.

Two classes are told apart by cuts of the probability of the positive one. One cut is a threshold. Two are a neutral
band: below the first a text is negative, from the second on positive, and between them neutral, although the model
has no such class.
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
    """One of the words for a sentiment. `options` is the recipe's `sentiment:` section."""

    section = "sentiment"
    cuts: Sequence[float] = ()  # of the probability of the positive one of two classes; none: the likeliest class
    calibration_note = ""  # what tuning found
    merged_outputs: Sequence[Sequence[int]] = ()  # the outputs that count as each label, where several may

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.has_neutral_band = options.neutral not in ("refuse", "drop")
        self.needs_calibration = options.threshold == "tuned" or self.has_neutral_band
        self.known_metrics = list_sentiment_metrics(self.has_neutral_band)

    @property
    def prediction_labels(self) -> Sequence[str]:
        """The words that an answer may be: with a band neutral too."""
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
            self.needs_calibration, self.cuts = False, ()
            return notes
        threshold, neutral = self.options.threshold, self.options.neutral
        self.cuts = [EVEN_THRESHOLD if threshold == "tuned" else threshold]
        if self.has_neutral_band:
            self.cuts = list(neutral) if isinstance(neutral, list) else [EVEN_THRESHOLD, EVEN_THRESHOLD]
            self.needs_calibration = not isinstance(neutral, list)
        return notes

    def check_requested_classes(self, train: Rows) -> None:
        """Raise DataError where a class that was asked for has no row."""
        missing = [word for word in CLASSES_BY_COUNT.get(self.options.classes, ()) if word not in self.labels]
        if missing:
            what = f"{train.name}: sentiment.classes={self.options.classes}, and no row of train is {missing[0]}"
            raise DataError(what, "leave it out to learn the classes that there are")

    def load_config(self, config: PreTrainedConfig) -> None:
        own = read_label_names(config)
        words = [look_up_sentiment(label, {}) for label in own]
        known = None not in words and len(set(words)) == len(words)  # of a model made elsewhere: POSITIVE, 5 stars
        self.labels = [str(word) for word in words] if known else own
        self.cuts = read_stored_cuts(config) or ([EVEN_THRESHOLD] if is_binary_sentiment(self.labels) else [])
        if self.cuts and not is_binary_sentiment(self.labels):
            raise ModelError("the model's config has a threshold for two classes", "mend its 'sentiment' field")
        self.has_neutral_band = len(self.cuts) > 1
        self.known_metrics = list_sentiment_metrics(self.has_neutral_band)

    def encode_targets(self, references: Sequence[Any]) -> list[Any]:
        position = {label: i for i, label in enumerate(self.labels)}
        if self.has_neutral_band:  # rows to be judged, never to learn from
            position.setdefault(NEUTRAL, -100)
        return [position[label] for label in references]

    def merge_strengths(self) -> None:
        """Answer from now on without `very`: what is very positive counts as positive."""
        plain = [SENTIMENT_POLARITY.get(label, label) for label in self.labels]
        self.labels = list(dict.fromkeys(plain))
        self.merged_outputs = [[i for i, word in enumerate(plain) if word == label] for label in self.labels]

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        if self.merged_outputs:
            import numpy as np

            outputs = [np.array([row[part].sum() for part in self.merged_outputs]) for row in outputs]
        return [self.apply_thresholds(one.probabilities or {}) if self.cuts else one for one in super().decode(outputs)]

    def apply_thresholds(self, probabilities: Mapping[str, float]) -> Prediction:
        """What is said of a row with these probabilities of two classes."""
        negative, positive = sorted(self.labels, key=get_sentiment_rank)
        if probabilities[positive] < self.cuts[0]:
            return Prediction(negative, probabilities)
        return Prediction(positive if probabilities[positive] >= self.cuts[-1] else NEUTRAL, probabilities)

    def decision_rule(self) -> str:
        """As `Task.rule`."""
        if not self.cuts or set(self.cuts) == {EVEN_THRESHOLD}:
            return ""
        positive, (low, high) = max(self.labels, key=get_sentiment_rank), (self.cuts[0], self.cuts[-1])
        if len(self.cuts) > 1:
            return f"{NEUTRAL} from {low:.3f} to {high:.3f} of {positive} (stored with the model)"
        return f"{positive} from {high:.3f} of {positive}, not from 0.5 (stored with the model)"

    def calibrate(self, references: Sequence[Any], answers: Sequence[Prediction]) -> Sequence[Prediction]:
        if not self.needs_calibration:
            return answers
        import numpy as np

        negative, positive = sorted(self.labels, key=get_sentiment_rank)
        chances = np.array([one.probabilities[positive] for one in answers if one.probabilities])
        truth = np.array([(negative, NEUTRAL, positive).index(one) - 1 for one in references])
        wanted = self.options.neutral
        self.cuts = (
            [find_sentiment_threshold(truth, chances)]
            if self.options.threshold == "tuned"
            else [self.options.threshold]
        )
        if wanted == "tuned":
            self.cuts = find_neutral_band(truth, chances)
        elif self.has_neutral_band:
            self.cuts = find_band_of_share(self.cuts[0], chances, wanted)
        self.calibration_note = self.describe_calibration(truth, chances)
        return [self.apply_thresholds(one.probabilities or {}) for one in answers]

    def describe_calibration(self, truth: Any, chances: Any) -> str:
        """What the cuts make of the validation rows, in words."""
        found = assign_classes(chances, self.cuts)
        if not self.has_neutral_band:
            before, after = (
                compute_macro_f1(truth, assign_classes(chances, [EVEN_THRESHOLD])),
                compute_macro_f1(truth, found),
            )
            if not has_enough_rows(truth):
                return f"validation has fewer than {MIN_CLASS_ROWS} rows of a class: the threshold stays at 0.5"
            other = "none is better beyond chance" if self.cuts[0] == EVEN_THRESHOLD else f"{before:.3f} at 0.5"
            return f"threshold {self.cuts[0]:.3f}: macro F1 {after:.3f} on validation, {other}"
        low, high = self.cuts
        firm = found != 0
        right = f"{(found == truth)[firm].mean():.1%} of the others right" if firm.any() else "no other"
        share = f"{1 - firm.mean():.1%} of {pluralize(len(truth), 'validation row')}"
        return f"neutral from {low:.3f} to {high:.3f} of {POSITIVE}: {share}, {right}"

    def stored_fields(self) -> dict[str, Any]:
        """What a model's config keeps beside the names of the classes."""
        return {"cuts": list(self.cuts)} if self.cuts else {}


class SentimentScore(Regression):
    """A number; with a band each answer also has the word for where it lies."""

    section = "sentiment"
    cuts: Sequence[float] = ()
    calibration_note = ""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.cuts = options.neutral if isinstance(options.neutral, list) else ()

    def load_config(self, config: PreTrainedConfig) -> None:
        super().load_config(config)
        self.cuts = read_stored_cuts(config)

    def decode(self, outputs: Sequence[Any]) -> list[Prediction]:
        answers = super().decode(outputs)
        if not self.cuts:
            return answers
        low, high = self.cuts

        def word(number: float) -> str:
            return NEGATIVE if number < low else POSITIVE if number > high else NEUTRAL

        return [Prediction(one.value, extra={"sentiment": word(one.value)}) for one in answers]

    def stored_fields(self) -> dict[str, Any]:
        """What a model's config keeps beside the name of the number."""
        return {"cuts": list(self.cuts)} if self.cuts else {}


def list_sentiment_metrics(banded: bool) -> tuple[str, ...]:
    """With a band neutral has no probability, so that only what is said can be scored."""
    return single_label.CLASSIFICATION_METRICS if banded else SingleLabel.known_metrics


def get_sentiment_rank(word: str) -> int:
    return SENTIMENTS.index(word)


def is_binary_sentiment(labels: Sequence[str]) -> bool:
    """Whether the labels are one negative and one positive word."""
    return {SENTIMENT_POLARITY.get(label, label) for label in labels} == {NEGATIVE, POSITIVE} and len(labels) == 2


def read_stored_cuts(config: PreTrainedConfig) -> list[float]:
    """The cuts in a saved model's config. Raises ModelError where they are not one or two rising numbers."""
    about = getattr(config, "sentiment", None) or {}
    cuts: list[Any] = about.get("cuts", []) if isinstance(about, dict) else [None]
    if not all(type(one) in (int, float) for one in cuts) or len(cuts) > 2 or list(cuts) != sorted(cuts):
        raise ModelError("the model's config has cuts that are no rising numbers", "mend its 'sentiment' field")
    return [float(one) for one in cuts]
