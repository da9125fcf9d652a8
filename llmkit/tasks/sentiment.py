"""Sentiment analysis: classification whose labels are words for a sentiment, however the file spells them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.util import find_spec
from math import inf
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator
from pydantic_core import PydanticCustomError

from llmkit.data.columns import truncate_cell
from llmkit.data.labels.sentiment import (
    NEUTRAL,
    SENTIMENT_POLARITY,
    SENTIMENTS,
    check_sentiment_labels,
    format_label_map,
    infer_label_map,
    look_up_sentiment,
    parse_label,
    parse_stars,
    replace_labels,
)
from llmkit.data.row_errors import RowError, pluralize, raise_errors
from llmkit.errors import DataError, suggest_spelling
from llmkit.schema import Conflict, Section, Share
from llmkit.tasks.base import EncodedRows, Head, Strata
from llmkit.tasks.classify import Classify, ClassWeights
from llmkit.tasks.problem_types import ProblemType
from llmkit.tasks.problem_types.sentiment import SentimentClasses, SentimentScore

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedTokenizerBase

    from llmkit.data.rows import Rows

IMBALANCE_RATIO = 3.0  # times as many rows: from here on weights are worth a thought
LEXICON_PACKAGE = "vaderSentiment"


def validate_label_words(value: object) -> object:
    """The value where it maps spellings to words that llmkit has."""
    if not isinstance(value, dict):
        raise PydanticCustomError("labels", "must be a mapping spelling: word")
    for spelling, word in value.items():
        if word not in SENTIMENTS:
            known = suggest_spelling(word, SENTIMENTS) if isinstance(word, str) else f"known: {', '.join(SENTIMENTS)}"
            what = "'{spelling}' is mapped to {word}, which is no sentiment; {known}"
            raise PydanticCustomError("labels", what, {"spelling": spelling, "word": repr(word), "known": known})
    return value


def validate_threshold(value: object) -> object:
    """The value where it can be a threshold."""
    if value == "tuned" or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("threshold", "must be tuned, or a probability between 0 and 1")


def validate_neutral(value: object) -> object:
    """The value where it can say what becomes of neutral."""
    if value in ("refuse", "drop", "tuned") or (isinstance(value, float) and 0 < value < 1):
        return value
    if isinstance(value, list) and len(value) == 2 and all(type(one) in (int, float) for one in value):
        low, high = map(float, value)
        if -inf < low < high < inf:
            return [low, high]
    raise PydanticCustomError("neutral", "must be refuse, drop, tuned, a share between 0 and 1, or [low, high]")


LabelWords = Annotated[dict[str, str], BeforeValidator(validate_label_words)]
Threshold = Annotated[Literal["tuned"] | float, BeforeValidator(validate_threshold)]
Neutral = Annotated[Literal["refuse", "drop", "tuned"] | float | list[float], BeforeValidator(validate_neutral)]


class SentimentOptions(Section):
    """Which sentiments there are, and how labels and probabilities become them."""

    classes: Literal["auto", 2, 3, 5, "score"] = "auto"
    """auto: the words that the labels mean; 2: negative and positive; 3: neutral too; 5: from very negative to very
    positive; score: the number itself is learned. From five stars 1 and 2 are negative, 4 and 5 positive."""
    labels: LabelWords = {}
    """What the file's labels mean, such as {0: negative, 1: neutral, 2: positive}: very negative, negative, neutral,
    positive or very positive. Usual spellings need no entry; what was made of them is said."""
    neutral: Neutral = "refuse"
    """What becomes of neutral with two classes. refuse: a neutral row is a mistake; drop: neutral rows are left out.
    The others let the model answer neutral between two probabilities of positive, and neutral rows are not learned
    from but judged: [0.4, 0.6]; 0.1: that share of validation; tuned: for the best macro F1 on validation, which then
    needs neutral rows. With classes: score [low, high] of the number."""
    threshold: Threshold = "tuned"
    """From which probability on a text is positive, with two classes. tuned: the one nearest to 0.5 whose macro F1 on
    validation is within a standard error of the best, stored with the model; 0.5: the likelier class."""
    class_weights: ClassWeights = "none"
    """How much a row of a class counts in the loss: balanced (rows / (classes * rows of the class)), or {word: weight}
    with 1 for the others."""
    label_smoothing: Share = 0.0
    """Share of the target that is spread over all classes."""

    @property
    def kind(self) -> str:
        """As in the section of classify."""
        return "regression" if self.classes == "score" else "single"

    @model_validator(mode="after")
    def check_conflicts(self) -> SentimentOptions:
        found: list[Conflict] = []
        changed: set[str] = {
            key for key, about in type(self).model_fields.items() if getattr(self, key) != about.default
        }
        if self.classes == "score":
            keys = [key for key in ("labels", "threshold", "class_weights", "label_smoothing") if key in changed]
            found += [Conflict((key, "classes"), "a score has no classes; leave it out") for key in keys]
            if "neutral" in changed and not isinstance(self.neutral, list):
                found.append(Conflict(("neutral", "classes"), "of a score neutral lies in [low, high]; write both"))
        elif isinstance(self.neutral, list) and not 0 <= self.neutral[0] < self.neutral[1] <= 1:
            found.append(Conflict(("neutral",), "low and high are probabilities, from 0 to 1"))
        if self.classes in (3, 5):
            two = [key for key in ("neutral", "threshold") if key in changed]
            found += [Conflict((key, "classes"), "counts only with two classes; leave it out") for key in two]
        elif "threshold" in changed and (self.neutral == "tuned" or isinstance(self.neutral, list)):
            found.append(Conflict(("threshold", "neutral"), "the neutral band is the threshold; leave it out"))
        if found:
            raise PydanticCustomError("quarrel", "keys do not go together", {"quarrels": found})
        return self


class Sentiment(Classify):
    """Texts, and how they feel: in words, or as a number."""

    columns = {"text": "the text to judge", "label": "its sentiment"}
    optional = ()
    Options = SentimentOptions
    problem_types: Mapping[str, type[ProblemType]] = {"single": SentimentClasses, "regression": SentimentScore}

    label_words: Mapping[str, str] | None = None  # what labels mean beyond the tables; None: not learned yet
    is_trained = False  # whether it was learned in training: other rows may then bring spellings of their own

    def set_problem_type(self, kind: str) -> None:
        super().set_problem_type(kind)
        self.may_be_empty = ("label",)  # refused beside labels that mean nothing, so that all are named at once
        if find_spec(LEXICON_PACKAGE) is not None:
            self.baselines = (*self.baselines, "lexicon")
        else:
            self.unavailable_baselines = {"lexicon": f"it needs {LEXICON_PACKAGE}; pip install 'llmkit[sentiment]'"}

    @property
    def labels(self) -> Sequence[str]:  # type: ignore[override]
        return self.problem_type.prediction_labels if isinstance(self.problem_type, SentimentClasses) else ()

    @property
    def is_score(self) -> bool:
        """Whether a number is learned."""
        return isinstance(self.problem_type, SentimentScore)

    def filter_rows(self, rows: Rows) -> tuple[Rows, list[str]]:
        """The rows less those that are left out as neutral. The first rows with labels say what labels mean."""
        if "label" not in rows.column_mapping or self.is_score:
            return rows, []
        spelled, own = rows.texts("label"), rows.column_name("label")
        first = self.label_words is None
        if first:
            self.label_words = infer_label_map(spelled, self.options.labels, own)
        words = self.map_labels(rows)
        meanings = dict(zip(spelled, words, strict=True))
        if not self.is_trained:
            check_sentiment_labels(rows, words)
        notes = []
        if (first or self.is_trained) and any(spelling != word for spelling, word in meanings.items()):
            guessed = first and not all(one in self.options.labels for one in meanings)
            mends = " (guessed; sentiment.labels={...} says otherwise)" if guessed else ""
            notes = [f"labels: {format_label_map(meanings)}{mends}"]
        if self.has_finer_classes(meanings):
            self.problem_type.leave_out_strength()  # type: ignore[attr-defined]
            notes.append("these rows tell no strength: very positive counts as positive, very negative as negative")
        neutral = [row for row, word in enumerate(words) if word == NEUTRAL]
        if self.options.neutral == "drop" and neutral:
            if len(neutral) == len(rows):
                raise DataError(f"{rows.name}: every row is neutral", "leave sentiment.neutral=drop out")
            out = f"{pluralize(len(neutral), 'neutral row')} of {len(rows):,}"
            notes.append(f"{rows.name}: left out {out}; sentiment.neutral=drop")
            return rows.take([row for row, word in enumerate(words) if word != NEUTRAL]), notes
        if self.options.classes == 2 and self.options.neutral == "refuse" and not self.is_trained:
            mend_it = "sentiment.neutral=drop leaves such rows out, sentiment.neutral=tuned lets the model say neutral"
            what = "is '{}', neutral, and sentiment.classes=2 has no such class"
            raise_errors(
                [
                    RowError(rows.location(row), f"'{own}' {what.format(truncate_cell(spelled[row]))}", mend_it)
                    for row in neutral
                ]
            )
        return rows, notes

    def has_finer_classes(self, meanings: Mapping[str, str]) -> bool:
        """Whether the trained model tells `very` apart, and labels of another origin than its own do not."""
        fine = isinstance(self.problem_type, SentimentClasses) and not SENTIMENT_POLARITY.keys().isdisjoint(
            self.problem_type.labels
        )
        if not (self.is_trained and fine) or not meanings.keys() - {*(self.label_words or {}), *self.labels}:
            return False
        return set(meanings.values()) <= {*SENTIMENT_POLARITY.values(), NEUTRAL}

    def map_labels(self, rows: Rows) -> list[str]:
        """The word for each row's label, without its strength where the classes have none; unknown ones stay."""
        spelled = rows.texts("label")
        known, own = self.label_words or {}, rows.column_name("label")
        if self.is_trained and any(look_up_sentiment(one, known) is None for one in set(spelled)):
            given = {one: word for one, word in known.items() if parse_label(one).code is None}
            known = infer_label_map(spelled, given, own)  # rows of another origin have a scale of their own
        meant = {one: look_up_sentiment(one, known) or one for one in set(spelled)}
        if self.options.classes in (2, 3) or (
            self.is_trained and not any(word in SENTIMENT_POLARITY for word in self.labels)
        ):
            meant = {one: SENTIMENT_POLARITY.get(word, word) for one, word in meant.items()}
        return [meant[one] for one in spelled]

    def stratify_by(self, rows: Rows) -> Strata | None:
        return self.problem_type.stratify_by(rows) if self.is_score else Strata(self.map_labels(rows))

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        if self.is_score:
            return self.problem_type.fit(
                convert_stars_to_numbers(train), {name: convert_stars_to_numbers(rows) for name, rows in others.items()}
            )
        notes = self.problem_type.fit(
            self.select_training_rows(train), {name: self.select_training_rows(rows) for name, rows in others.items()}
        )
        self.needs_calibration = self.problem_type.needs_calibration
        self.check_calibration_rows(others)
        return [*notes, self.describe_class_shares(train)]

    def check_calibration_rows(self, others: Mapping[str, Rows]) -> None:
        """Raise DataError where a band is to be found on validation, and cannot."""
        wanted, band = self.options.neutral, "name a band, such as sentiment.neutral='[0.4, 0.6]'"
        if isinstance(wanted, float) and "validation" not in others:
            what = f"sentiment.neutral={wanted:g} is a share of the validation rows, and there are none"
            raise DataError(what, band)
        if wanted == "tuned" and ("validation" not in others or NEUTRAL not in self.map_labels(others["validation"])):
            what = "sentiment.neutral=tuned, and no validation row is neutral"
            raise DataError(what, f"name a share of them, such as sentiment.neutral=0.1, or {band}")

    def select_training_rows(self, rows: Rows) -> Rows:
        """The rows with words for labels, less those that are only judged."""
        words = self.map_labels(rows)
        return replace_labels(rows, words).take([row for row, word in enumerate(words) if self.is_trained_on(word)])

    def is_trained_on(self, word: str) -> bool:
        """Whether rows of this word are learned from: with a band no neutral ones."""
        return word != NEUTRAL or not (
            isinstance(self.problem_type, SentimentClasses) and self.problem_type.has_neutral_band
        )

    def describe_class_shares(self, train: Rows) -> str:
        """A note on how many rows of train have which sentiment."""
        counts = Counter(self.map_labels(train))
        parts = ", ".join(f"{counts[word] / len(train):.1%} {word}" for word in SENTIMENTS if counts[word])
        most, least = (
            max(counts[word] for word in self.problem_type.labels),
            min(counts[word] for word in self.problem_type.labels),
        )
        unequal = most >= IMBALANCE_RATIO * least and self.options.class_weights == "none"
        mend_it = "; sentiment.class_weights=balanced makes each class count the same" if unequal else ""
        return f"train: {parts}{mend_it}"

    def load_config(self, config: PreTrainedConfig) -> None:
        super().load_config(config)
        self.may_be_empty = ("label",) if self.is_score else ()
        about = getattr(config, "sentiment", None)
        self.label_words = about.get("labels", {}) if isinstance(about, dict) else {}
        self.known_metrics, self.is_trained = self.problem_type.known_metrics, True

    def head(self) -> Head:
        head = super().head()
        stored = (
            self.problem_type.stored_fields()
            if isinstance(self.problem_type, SentimentClasses | SentimentScore)
            else {}
        )
        return replace(head, config=head.config | {"sentiment": {"labels": dict(self.label_words or {})} | stored})

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        if self.is_score:
            return self.encode(rows, tokenizer, max_length)
        at = [row for row, word in enumerate(self.map_labels(rows)) if self.is_trained_on(word)]
        return self.encode(rows.take(at), tokenizer, max_length)._replace(row_of=at.__getitem__)

    def references(self, rows: Rows) -> list[Any]:
        return self.problem_type.references(convert_stars_to_numbers(rows)) if self.is_score else self.map_labels(rows)

    def calibration_note(self) -> str:
        return self.problem_type.calibration_note if isinstance(self.problem_type, SentimentClasses) else ""

    def decision_rule(self) -> str:
        return self.problem_type.decision_rule() if isinstance(self.problem_type, SentimentClasses) else ""


def convert_stars_to_numbers(rows: Rows) -> Rows:
    """The rows with counts of stars as plain numbers."""
    counts = {one: parse_stars(one) for one in set(rows.texts("label"))}
    if all(count is None for count in counts.values()):
        return rows
    return replace_labels(rows, [one if counts[one] is None else str(counts[one]) for one in rows.texts("label")])
