"""A sentiment: single classes in the order of their words, or a number with a neutral band.

Two classes are told apart by cuts of the probability of the positive one. One cut is a threshold. Two are a neutral
band: below the first a text is negative, from the second on positive, and between them neutral, although the model
has no such class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmkit.data.labels.sentiment import NEGATIVE, NEUTRAL, PLAIN, POSITIVE, WORDS, word_of
from llmkit.data.row_errors import counted
from llmkit.errors import DataError, ModelError
from llmkit.metrics.classification import single_label
from llmkit.tasks.base import Answer
from llmkit.tasks.problem_types.regression import Regression
from llmkit.tasks.problem_types.single import Single, label_names_of
from llmkit.tasks.problem_types.thresholds import (
    ENOUGH,
    HALF,
    around,
    best_band,
    best_threshold,
    classes,
    enough,
    macro_f1,
)

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

    from llmkit.data.rows import Rows

ASKED = {2: (NEGATIVE, POSITIVE), 3: (NEGATIVE, NEUTRAL, POSITIVE), 5: WORDS}


class Polar(Single):
    """One of the words for a sentiment. `options` is the recipe's `sentiment:` section."""

    section = "sentiment"
    cuts: Sequence[float] = ()  # of the probability of the positive one of two classes; none: the likeliest class
    note = ""  # what tuning found
    parts: Sequence[Sequence[int]] = ()  # the outputs that count as each label, where several may

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.banded = options.neutral not in ("refuse", "drop")
        self.tunes = options.threshold == "tuned" or self.banded
        self.known_metrics = known_metrics(self.banded)

    @property
    def said(self) -> Sequence[str]:
        """The words that an answer may be: with a band neutral too."""
        return [self.labels[0], NEUTRAL, self.labels[1]] if self.banded and self.labels else self.labels

    def names(self, train: Rows) -> list[str]:
        return [word for word in WORDS if word in set(train.texts("label"))]

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        notes = super().fit(train, others)
        self.refuse_missing(train)
        if not two_sided(self.labels):
            if self.banded:
                what = f"{train.name}: sentiment.neutral needs a model of two classes, and train has "
                raise DataError(what + ", ".join(self.labels), "set sentiment.classes=2, or leave it out")
            self.tunes, self.cuts = False, ()
            return notes
        threshold, neutral = self.options.threshold, self.options.neutral
        self.cuts = [HALF if threshold == "tuned" else threshold]
        if self.banded:
            self.cuts = list(neutral) if isinstance(neutral, list) else [HALF, HALF]
            self.tunes = not isinstance(neutral, list)
        return notes

    def refuse_missing(self, train: Rows) -> None:
        """Raise DataError where a class that was asked for has no row."""
        missing = [word for word in ASKED.get(self.options.classes, ()) if word not in self.labels]
        if missing:
            what = f"{train.name}: sentiment.classes={self.options.classes}, and no row of train is {missing[0]}"
            raise DataError(what, "leave it out to learn the classes that there are")

    def adopt(self, config: PreTrainedConfig) -> None:
        own = label_names_of(config)
        words = [word_of(label, {}) for label in own]
        known = None not in words and len(set(words)) == len(words)  # of a model made elsewhere: POSITIVE, 5 stars
        self.labels = [str(word) for word in words] if known else own
        self.cuts = stored_cuts(config) or ([HALF] if two_sided(self.labels) else [])
        if self.cuts and not two_sided(self.labels):
            raise ModelError("the model's config has a threshold for two classes", "mend its 'sentiment' field")
        self.banded = len(self.cuts) > 1
        self.known_metrics = known_metrics(self.banded)

    def targets(self, references: Sequence[Any]) -> list[Any]:
        position = {label: i for i, label in enumerate(self.labels)}
        if self.banded:  # rows to be judged, never to learn from
            position.setdefault(NEUTRAL, -100)
        return [position[label] for label in references]

    def leave_out_strength(self) -> None:
        """Answer from now on without `very`: what is very positive counts as positive."""
        plain = [PLAIN.get(label, label) for label in self.labels]
        self.labels = list(dict.fromkeys(plain))
        self.parts = [[i for i, word in enumerate(plain) if word == label] for label in self.labels]

    def decode(self, outputs: Sequence[Any]) -> list[Answer]:
        if self.parts:
            import numpy as np

            outputs = [np.array([row[part].sum() for part in self.parts]) for row in outputs]
        return [self.answer(one.probabilities or {}) if self.cuts else one for one in super().decode(outputs)]

    def answer(self, probabilities: Mapping[str, float]) -> Answer:
        """What is said of a row with these probabilities of two classes."""
        negative, positive = sorted(self.labels, key=order)
        if probabilities[positive] < self.cuts[0]:
            return Answer(negative, probabilities)
        return Answer(positive if probabilities[positive] >= self.cuts[-1] else NEUTRAL, probabilities)

    def rule(self) -> str:
        """As `Task.rule`."""
        if not self.cuts or set(self.cuts) == {HALF}:
            return ""
        positive, (low, high) = max(self.labels, key=order), (self.cuts[0], self.cuts[-1])
        if len(self.cuts) > 1:
            return f"{NEUTRAL} from {low:.3f} to {high:.3f} of {positive} (stored with the model)"
        return f"{positive} from {high:.3f} of {positive}, not from 0.5 (stored with the model)"

    def tune(self, references: Sequence[Any], answers: Sequence[Answer]) -> Sequence[Answer]:
        if not self.tunes:
            return answers
        import numpy as np

        negative, positive = sorted(self.labels, key=order)
        chances = np.array([one.probabilities[positive] for one in answers if one.probabilities])
        truth = np.array([(negative, NEUTRAL, positive).index(one) - 1 for one in references])
        wanted = self.options.neutral
        self.cuts = [best_threshold(truth, chances)] if self.options.threshold == "tuned" else [self.options.threshold]
        if wanted == "tuned":
            self.cuts = best_band(truth, chances)
        elif self.banded:
            self.cuts = around(self.cuts[0], chances, wanted)
        self.note = self.told(truth, chances)
        return [self.answer(one.probabilities or {}) for one in answers]

    def told(self, truth: Any, chances: Any) -> str:
        """What the cuts make of the validation rows, in words."""
        found = classes(chances, self.cuts)
        if not self.banded:
            before, after = macro_f1(truth, classes(chances, [HALF])), macro_f1(truth, found)
            if not enough(truth):
                return f"validation has fewer than {ENOUGH} rows of a class: the threshold stays at 0.5"
            other = "none is better beyond chance" if self.cuts[0] == HALF else f"{before:.3f} at 0.5"
            return f"threshold {self.cuts[0]:.3f}: macro F1 {after:.3f} on validation, {other}"
        low, high = self.cuts
        firm = found != 0
        right = f"{(found == truth)[firm].mean():.1%} of the others right" if firm.any() else "no other"
        share = f"{1 - firm.mean():.1%} of {counted(len(truth), 'validation row')}"
        return f"neutral from {low:.3f} to {high:.3f} of {POSITIVE}: {share}, {right}"

    def stored(self) -> dict[str, Any]:
        """What a model's config keeps beside the names of the classes."""
        return {"cuts": list(self.cuts)} if self.cuts else {}


class Score(Regression):
    """A number; with a band each answer also has the word for where it lies."""

    section = "sentiment"
    cuts: Sequence[float] = ()
    note = ""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.cuts = options.neutral if isinstance(options.neutral, list) else ()

    def adopt(self, config: PreTrainedConfig) -> None:
        super().adopt(config)
        self.cuts = stored_cuts(config)

    def decode(self, outputs: Sequence[Any]) -> list[Answer]:
        answers = super().decode(outputs)
        if not self.cuts:
            return answers
        low, high = self.cuts

        def word(number: float) -> str:
            return NEGATIVE if number < low else POSITIVE if number > high else NEUTRAL

        return [Answer(one.answer, more={"sentiment": word(one.answer)}) for one in answers]

    def stored(self) -> dict[str, Any]:
        """What a model's config keeps beside the name of the number."""
        return {"cuts": list(self.cuts)} if self.cuts else {}


def known_metrics(banded: bool) -> tuple[str, ...]:
    """With a band neutral has no probability, so that only what is said can be scored."""
    return single_label.NAMES if banded else Single.known_metrics


def order(word: str) -> int:
    return WORDS.index(word)


def two_sided(labels: Sequence[str]) -> bool:
    """Whether the labels are one negative and one positive word."""
    return {PLAIN.get(label, label) for label in labels} == {NEGATIVE, POSITIVE} and len(labels) == 2


def stored_cuts(config: PreTrainedConfig) -> list[float]:
    """The cuts in a saved model's config. Raises ModelError where they are not one or two rising numbers."""
    about = getattr(config, "sentiment", None) or {}
    cuts: list[Any] = about.get("cuts", []) if isinstance(about, dict) else [None]
    if not all(type(one) in (int, float) for one in cuts) or len(cuts) > 2 or list(cuts) != sorted(cuts):
        raise ModelError("the model's config has cuts that are no rising numbers", "mend its 'sentiment' field")
    return [float(one) for one in cuts]
