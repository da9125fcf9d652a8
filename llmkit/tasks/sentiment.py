"""Sentiment analysis: classification into sentiment words, whatever labels the data uses, or a sentiment score."""

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

IMBALANCE_RATIO = 3.0  # rows of the largest class / rows of the smallest, from which class weights are suggested
LEXICON_PACKAGE = "vaderSentiment"


def validate_label_words(value: object) -> object:
    """Return the value if it maps spellings to sentiment words."""
    if not isinstance(value, dict):
        raise PydanticCustomError("labels", "must be a mapping spelling: word")
    for spelling, word in value.items():
        if word not in SENTIMENTS:
            known = suggest_spelling(word, SENTIMENTS) if isinstance(word, str) else f"known: {', '.join(SENTIMENTS)}"
            what = "'{spelling}' is mapped to {word}, which is not a sentiment; {known}"
            raise PydanticCustomError("labels", what, {"spelling": spelling, "word": repr(word), "known": known})
    return value


def validate_threshold(value: object) -> object:
    """Return the value if it is a threshold."""
    if value == "tuned" or (isinstance(value, float) and 0 < value < 1):
        return value
    raise PydanticCustomError("threshold", "must be tuned, or a probability between 0 and 1")


def validate_neutral(value: object) -> object:
    """Return the value if it is a treatment of neutral rows."""
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
    """Options of sentiment analysis: classes, the meaning of labels, thresholds, and class weights."""

    classes: Literal["auto", 2, 3, 5, "score"] = "auto"
    """auto: the sentiments that occur in the labels; 2: negative and positive; 3: also neutral; 5: from very negative
    to very positive; score: regression on the number. Of five stars 1 and 2 are negative, 4 and 5 positive."""
    labels: LabelWords = {}
    """Meaning of the file's labels, such as {0: negative, 1: neutral, 2: positive}: very negative, negative, neutral,
    positive or very positive. Usual spellings need no entry; the run reports how it reads them."""
    neutral: Neutral = "refuse"
    """Treatment of neutral with two classes. refuse: a neutral row is an error; drop: neutral rows are left out. With
    the others the model predicts neutral between two probabilities of positive, and neutral rows are scored but not
    trained on: [0.4, 0.6]; 0.1: that share of validation; tuned: for the best macro F1 on validation, which then needs
    neutral rows. With classes: score, the range [low, high] of neutral scores."""
    threshold: Threshold = "tuned"
    """Probability from which a text is positive, with two classes. tuned: the one nearest to 0.5 whose macro F1 on
    validation is within a standard error of the best, stored with the model; 0.5: the more probable class."""
    class_weights: ClassWeights = "none"
    """Loss weight of each class: none; balanced (rows / (classes * rows of the class)); or {word: weight} with 1 for
    the others."""
    label_smoothing: Share = 0.0
    """Share of the target probability that is spread over all classes."""

    @property
    def kind(self) -> str:
        """Return the problem type, as `kind` in the classify section."""
        return "regression" if self.classes == "score" else "single"

    @model_validator(mode="after")
    def check_conflicts(self) -> SentimentOptions:
        found: list[Conflict] = []
        changed: set[str] = {
            key for key, field in type(self).model_fields.items() if getattr(self, key) != field.default
        }
        if self.classes == "score":
            keys = [key for key in ("labels", "threshold", "class_weights", "label_smoothing") if key in changed]
            found += [Conflict((key, "classes"), "a score has no classes; leave it out") for key in keys]
            if "neutral" in changed and not isinstance(self.neutral, list):
                found.append(Conflict(("neutral", "classes"), "a score has a neutral range; write [low, high]"))
        elif isinstance(self.neutral, list) and not 0 <= self.neutral[0] < self.neutral[1] <= 1:
            found.append(Conflict(("neutral",), "low and high are probabilities, from 0 to 1"))
        if self.classes in (3, 5):
            binary = [key for key in ("neutral", "threshold") if key in changed]
            found += [Conflict((key, "classes"), "applies only with two classes; leave it out") for key in binary]
        elif "threshold" in changed and (self.neutral == "tuned" or isinstance(self.neutral, list)):
            found.append(Conflict(("threshold", "neutral"), "the neutral band is the threshold; leave it out"))
        if found:
            raise PydanticCustomError("conflict", "keys conflict", {"conflicts": found})
        return self


class Sentiment(Classify):
    """Sentiment analysis of texts: in words, or as a number."""

    columns = {"text": "the text to classify", "label": "its sentiment"}
    optional = ()
    Options = SentimentOptions
    problem_types: Mapping[str, type[ProblemType]] = {"single": SentimentClasses, "regression": SentimentScore}

    label_words: Mapping[str, str] | None = None  # meaning of labels beyond the usual spellings; None: not inferred yet
    is_trained = False  # whether label_words is from a trained model: other rows may then use labels of their own

    def set_problem_type(self, kind: str) -> None:
        super().set_problem_type(kind)
        self.may_be_empty = ("label",)  # reported with the unknown labels, so that one error names all
        if find_spec(LEXICON_PACKAGE) is not None:
            self.baselines = (*self.baselines, "lexicon")
        else:
            self.unavailable_baselines = {"lexicon": f"it needs {LEXICON_PACKAGE}; pip install 'llmkit[sentiment]'"}

    @property
    def labels(self) -> Sequence[str]:  # type: ignore[override]
        return self.problem_type.prediction_labels if isinstance(self.problem_type, SentimentClasses) else ()

    @property
    def is_score(self) -> bool:
        """Whether the target is a number."""
        return isinstance(self.problem_type, SentimentScore)

    def filter_rows(self, rows: Rows) -> tuple[Rows, list[str]]:
        """Leave neutral rows out if requested. The meaning of labels is inferred from the first rows that have any."""
        if "label" not in rows.column_mapping or self.is_score:
            return rows, []
        labels, column = rows.texts("label"), rows.column_name("label")
        first = self.label_words is None
        if first:
            self.label_words = infer_label_map(labels, self.options.labels, column)
        words = self.map_labels(rows)
        meanings = dict(zip(labels, words, strict=True))
        if not self.is_trained:
            check_sentiment_labels(rows, words)
        notes = []
        if (first or self.is_trained) and any(spelling != word for spelling, word in meanings.items()):
            guessed = first and not all(one in self.options.labels for one in meanings)
            hint = " (guessed; change it with sentiment.labels={...})" if guessed else ""
            notes = [f"labels: {format_label_map(meanings)}{hint}"]
        if self.has_finer_classes(meanings):
            self.problem_type.merge_strengths()  # type: ignore[attr-defined]
            notes.append("these labels have no strength: very positive counts as positive, very negative as negative")
        neutral = [row for row, word in enumerate(words) if word == NEUTRAL]
        if self.options.neutral == "drop" and neutral:
            if len(neutral) == len(rows):
                raise DataError(f"{rows.name}: every row is neutral", "leave sentiment.neutral=drop out")
            dropped = f"{pluralize(len(neutral), 'neutral row')} of {len(rows):,}"
            notes.append(f"{rows.name}: left out {dropped}; sentiment.neutral=drop")
            return rows.take([row for row, word in enumerate(words) if word != NEUTRAL]), notes
        if self.options.classes == 2 and self.options.neutral == "refuse" and not self.is_trained:
            raise_errors([self.neutral_row_error(rows, row) for row in neutral])
        return rows, notes

    def neutral_row_error(self, rows: Rows, row: int) -> RowError:
        """Return the error for a neutral row that is neither scored nor left out."""
        cell = truncate_cell(rows.texts("label")[row])
        what = f"'{rows.column_name('label')}' is '{cell}', neutral, and sentiment.classes=2 has no such class"
        fix = "sentiment.neutral=drop leaves such rows out, sentiment.neutral=tuned lets the model predict neutral"
        return RowError(rows.location(row), what, fix)

    def has_finer_classes(self, meanings: Mapping[str, str]) -> bool:
        """Whether the trained model has classes with `very`, and these labels, not from its training data, do not."""
        is_fine = not SENTIMENT_POLARITY.keys().isdisjoint(self.problem_type.labels)
        if not (self.is_trained and is_fine and isinstance(self.problem_type, SentimentClasses)):
            return False
        if not meanings.keys() - {*(self.label_words or {}), *self.labels}:
            return False
        return set(meanings.values()) <= {*SENTIMENT_POLARITY.values(), NEUTRAL}

    def map_labels(self, rows: Rows) -> list[str]:
        """Map each row's label to its word, without its strength if the classes have none; keep unknown labels."""
        labels = rows.texts("label")
        known, column = self.label_words or {}, rows.column_name("label")
        if self.is_trained and any(look_up_sentiment(label, known) is None for label in set(labels)):
            given = {label: word for label, word in known.items() if parse_label(label).code is None}
            known = infer_label_map(labels, given, column)  # rows of another data set may use another scale
        words = {label: look_up_sentiment(label, known) or label for label in set(labels)}
        trained_without = self.is_trained and not any(word in SENTIMENT_POLARITY for word in self.labels)
        if self.options.classes in (2, 3) or trained_without:
            words = {label: SENTIMENT_POLARITY.get(word, word) for label, word in words.items()}
        return [words[label] for label in labels]

    def stratify_by(self, rows: Rows) -> Strata | None:
        return self.problem_type.stratify_by(rows) if self.is_score else Strata(self.map_labels(rows))

    def fit(self, train: Rows, others: Mapping[str, Rows]) -> list[str]:
        convert = convert_stars_to_numbers if self.is_score else self.select_training_rows
        notes = self.problem_type.fit(convert(train), {name: convert(rows) for name, rows in others.items()})
        if self.is_score:
            return notes
        self.needs_calibration = self.problem_type.needs_calibration
        self.check_calibration_rows(others)
        return [*notes, self.describe_class_shares(train)]

    def check_calibration_rows(self, others: Mapping[str, Rows]) -> None:
        """Raise DataError if a neutral band is to be tuned and validation has no rows for it."""
        neutral, fix = self.options.neutral, "name a band, such as sentiment.neutral='[0.4, 0.6]'"
        if isinstance(neutral, float) and "validation" not in others:
            what = f"sentiment.neutral={neutral:g} is a share of the validation rows, and there are none"
            raise DataError(what, fix)
        if neutral == "tuned" and ("validation" not in others or NEUTRAL not in self.map_labels(others["validation"])):
            what = "sentiment.neutral=tuned, and no validation row is neutral"
            raise DataError(what, f"name a share of them, such as sentiment.neutral=0.1, or {fix}")

    def select_training_rows(self, rows: Rows) -> Rows:
        """Return the rows that are trained on, with words for labels."""
        words = self.map_labels(rows)
        return replace_labels(rows, words).take([row for row, word in enumerate(words) if self.is_trained_on(word)])

    def is_trained_on(self, word: str) -> bool:
        """Whether rows with this word are trained on: with a neutral band, neutral rows are not."""
        return word != NEUTRAL or not (
            isinstance(self.problem_type, SentimentClasses) and self.problem_type.has_neutral_band
        )

    def describe_class_shares(self, train: Rows) -> str:
        """Return a note on the share of each sentiment in train."""
        counts = Counter(self.map_labels(train))
        shares = ", ".join(f"{counts[word] / len(train):.1%} {word}" for word in SENTIMENTS if counts[word])
        sizes = [counts[word] for word in self.problem_type.labels]
        imbalanced = max(sizes) >= IMBALANCE_RATIO * min(sizes) and self.options.class_weights == "none"
        hint = "; sentiment.class_weights=balanced makes each class count the same" if imbalanced else ""
        return f"train: {shares}{hint}"

    def load_config(self, config: PreTrainedConfig) -> None:
        super().load_config(config)
        self.may_be_empty = ("label",) if self.is_score else ()
        section = getattr(config, "sentiment", None)
        self.label_words = section.get("labels", {}) if isinstance(section, dict) else {}
        self.known_metrics, self.is_trained = self.problem_type.known_metrics, True

    def head(self) -> Head:
        head = super().head()
        section: dict[str, Any] = {"labels": dict(self.label_words or {})}
        if isinstance(self.problem_type, SentimentClasses | SentimentScore):
            section |= self.problem_type.stored_fields()
        return replace(head, config=head.config | {"sentiment": section})

    def encode_train(self, rows: Rows, tokenizer: PreTrainedTokenizerBase, max_length: int) -> EncodedRows:
        if self.is_score:
            return self.encode(rows, tokenizer, max_length)
        kept = [row for row, word in enumerate(self.map_labels(rows)) if self.is_trained_on(word)]
        return self.encode(rows.take(kept), tokenizer, max_length)._replace(row_of=kept.__getitem__)

    def references(self, rows: Rows) -> list[Any]:
        return self.problem_type.references(convert_stars_to_numbers(rows)) if self.is_score else self.map_labels(rows)

    def calibration_note(self) -> str:
        return self.problem_type.calibration_note if isinstance(self.problem_type, SentimentClasses) else ""

    def decision_rule(self) -> str:
        return self.problem_type.decision_rule() if isinstance(self.problem_type, SentimentClasses) else ""


def convert_stars_to_numbers(rows: Rows) -> Rows:
    """Replace counts of stars by plain numbers."""
    counts = {one: parse_stars(one) for one in set(rows.texts("label"))}
    if all(count is None for count in counts.values()):
        return rows
    return replace_labels(rows, [one if counts[one] is None else str(counts[one]) for one in rows.texts("label")])
