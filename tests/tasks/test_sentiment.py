"""Tests of sentiment analysis: labels as words, neutral rows, thresholds, and the fields stored in the config."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import BertConfig

from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, ModelError, RecipeError
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.recipe.load import load_recipe
from llmkit.tasks.base import Prediction
from llmkit.tasks.problem_types.sentiment import SentimentClasses
from llmkit.tasks.sentiment import Sentiment, SentimentOptions

STARS = ["1", "2", "3", "4", "5", "5"]


def rows(labels: list[str], name: str = "r.csv", column: str = "label") -> Rows:
    columns = {"text": [f"text {i}" for i in range(len(labels))], column: labels}
    return build_rows(columns, name, range(2, len(labels) + 2)).with_column_mapping({"text": "text", "label": column})


def fitted(cells: list[str], others: dict[str, list[str]] | None = None, **options: Any) -> tuple[Sentiment, list[str]]:
    task = Sentiment(SentimentOptions(**options))
    train, notes = task.filter_rows(rows(cells))
    rest = {name: task.filter_rows(rows(some, f"{name}.csv"))[0] for name, some in (others or {}).items()}
    return task, notes + task.fit(train, rest)


def config_of(task: Sentiment) -> Any:
    return BertConfig(**task.head().config)


def reload(task: Sentiment, **options: Any) -> Sentiment:
    """Return a new task that loads the config of `task`."""
    again = Sentiment(SentimentOptions(**options))
    again.load_config(config_of(task))
    return again


@pytest.mark.parametrize(
    ("labels", "options", "words"),
    [
        (["pos", "neg"], {}, ["negative", "positive"]),
        (["1", "-1", "0"], {}, ["negative", "neutral", "positive"]),
        (STARS, {}, ["very negative", "negative", "neutral", "positive", "very positive"]),
        (STARS, {"classes": 5}, ["very negative", "negative", "neutral", "positive", "very positive"]),
        (STARS, {"classes": 3}, ["negative", "neutral", "positive"]),
        (["1", "2", "4", "5"], {"classes": 2}, ["negative", "positive"]),
        (STARS, {"classes": 2, "neutral": "drop"}, ["negative", "positive"]),
        (["好评", "差评", "中评"], {}, ["negative", "neutral", "positive"]),
    ],
)
def test_classes_are_ordered_from_negative_to_positive(labels: list[str], options: Any, words: list[str]) -> None:
    task, _ = fitted(labels, **options)
    assert list(task.labels) == words
    assert task.head().config["id2label"] == dict(enumerate(words))


def test_the_meaning_and_shares_of_labels_are_noted() -> None:
    _, notes = fitted(STARS, classes=3)
    assert notes == [
        "labels: 1 and 2 = negative, 3 = neutral, 4 and 5 = positive (guessed; change it with sentiment.labels={...})",
        "1 label with one row only: 'neutral' (r.csv:4)",
        (
            "train: 33.3% negative, 16.7% neutral, 50.0% positive; "
            "sentiment.class_weights=balanced makes each class count the same"
        ),
    ]
    _, notes = fitted(["good", "meh"] * 2, labels={"meh": "negative", "good": "positive"})
    assert notes == ["labels: meh = negative, good = positive", "train: 50.0% negative, 50.0% positive"]
    assert fitted(["positive", "negative"] * 2)[1] == ["train: 50.0% negative, 50.0% positive"]
    assert "class_weights" not in fitted(["pos"] * 9 + ["neg"] * 3, class_weights="balanced")[1][-1]


@pytest.mark.parametrize(
    ("labels", "options", "sentence"),
    [
        (["pos", "meh", "neg", "meh"], {},
         ("r.csv:3: 'label' is 'meh', not a known sentiment (the first of 2 bad rows); map it with "
         "sentiment.labels='{meh: WORD}', where WORD is very negative, negative, neutral, positive, very positive\n"
         "  r.csv:3: 'label' is 'meh', not a known sentiment\n  r.csv:5: 'label' is 'meh', not a known sentiment")),
        (["pos", "mixed", "n/a", " ", "neg"], {"labels": {" ": "neutral"}},
         ("r.csv:3: 'label' is 'mixed', not a known sentiment (the first of 3 bad rows); map it with "
         "sentiment.labels='{mixed: WORD}', where WORD is very negative, negative, neutral, positive, very positive\n"
         "  r.csv:3: 'label' is 'mixed', not a known sentiment\n"
         "  r.csv:4: 'label' is 'n/a', not a known sentiment\n  r.csv:5: 'label' is an empty label")),
        (["0", "1", ""], {}, "r.csv:4: 'label' is an empty label; write its class"),
        (["pos", "postive", "meh"], {},
         ("r.csv:3: 'label' is 'postive', not a known sentiment (the first of 2 bad rows); did you mean 'positive'? "
         "Write it so, or sentiment.labels='{postive: positive}'\n"
         "  r.csv:3: 'label' is 'postive', not a known sentiment\n  r.csv:4: 'label' is 'meh', not a known sentiment")),
        (["9", "10", *map(str, range(1, 11))], {},
         ("r.csv:2: labels 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 of column 'label' are ambiguous; map each label "
         "with sentiment.labels='{1: negative, ...}'; sentiment.classes=score learns the number itself")),
        ([str(number) for number in range(12)], {},
         ("r.csv:2: labels 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more of column 'label' are ambiguous; map each label "
         "with sentiment.labels='{0: negative, ...}'; sentiment.classes=score learns the number itself")),
        (["1", "0", "2"], {},
         ("r.csv:2: labels 0, 1, 2 of column 'label' are ambiguous; map each label, such as "
         "sentiment.labels='{0: negative, 1: neutral, 2: positive}'")),
        (["1", "3", "5"], {"classes": 2},
         ("r.csv:3: 'label' is '3', neutral, and sentiment.classes=2 has no such class; sentiment.neutral=drop leaves such "
         "rows out, sentiment.neutral=tuned lets the model predict neutral")),
        (["0", "0"], {"labels": {"0": "neutral"}, "neutral": "drop"},
         "r.csv: every row is neutral; leave sentiment.neutral=drop out"),
        (["0", "1"], {"classes": 3},
         "r.csv: sentiment.classes=3, and no row of train is neutral; leave it out to learn the classes in the data"),
        (["1", "2", "3", "5"], {"neutral": 0.1},
         ("r.csv: sentiment.neutral needs a model of two classes, and train has very negative, negative, very positive; "
         "set sentiment.classes=2, or leave it out")),
        (["0", "1"], {"neutral": 0.1},
         ("sentiment.neutral=0.1 is a share of the validation rows, and there are none; name a band, such as "
         "sentiment.neutral='[0.4, 0.6]'")),
        (["0", "1"], {"neutral": "tuned"},
         ("sentiment.neutral=tuned, and no validation row is neutral; name a share of them, such as sentiment.neutral=0.1, "
         "or name a band, such as sentiment.neutral='[0.4, 0.6]'")),
        (["0", "1"], {"class_weights": {"good": 2.0}},
         "sentiment.class_weights: no class 'good' in the training rows; known: negative, positive"),
    ],
)  # fmt: skip
def test_labels_that_cannot_be_learned_are_errors(labels: list[str], options: Any, sentence: str) -> None:
    with pytest.raises(DataError) as caught:
        fitted(labels, **options)
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("labels", "thresholds", "sentence"),
    [
        (["negative", "positive"], [0.389], "positive from a probability of 0.389, not 0.5 (stored with the model)"),
        (["very positive", "negative"], [0.6],
         "very positive from a probability of 0.600, not 0.5 (stored with the model)"),
        (["negative", "positive"], [0.3, 0.7], "neutral at a positive probability from 0.300 to 0.700 (stored with the model)"),
        (["negative", "positive"], [0.5], ""),
        (["negative", "neutral", "positive"], [], ""),
    ],
)  # fmt: skip
def test_a_cut_other_than_one_half_is_described(labels: list[str], thresholds: list[float], sentence: str) -> None:
    task = Sentiment()
    names = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    task.load_config(
        BertConfig(problem_type="single_label_classification", sentiment={"thresholds": thresholds}, **names)
    )
    assert task.decision_rule() == sentence


def test_other_splits_use_the_scale_of_train() -> None:
    task, _ = fitted(["1", "2", "5"], {"test": ["4", "2 stars"]}, classes=2)
    assert task.map_labels(rows(["3", "★★★★"])) == ["neutral", "positive"]
    with pytest.raises(DataError) as caught:
        fitted(["0", "1"], {"test": ["1", "2"]})
    fix = "map each label, such as sentiment.labels='{1: negative, 2: positive}'"
    assert str(caught.value) == f"test.csv:3: labels 1, 2 of column 'label' are ambiguous; {fix}"
    with pytest.raises(DataError, match=r"test.csv:2: label 'neutral' does not occur in train \(1 row of test\)"):
        fitted(["1", "2", "5"], {"test": ["3"]})


@pytest.mark.parametrize(
    ("keys", "sentences"),
    [
        (["classes=4"], ["classes: 4 is not one of auto, 2, 3, 5, score"]),
        (["labels={0: angry}"], [("labels: '0' is mapped to 'angry', which is not a sentiment; known: very negative, negative, "
                                 "neutral, positive, very positive")]),
        (["labels={0: postive}"], ["labels: '0' is mapped to 'postive', which is not a sentiment; did you mean 'positive'?"]),
        (["threshold=1.5"], ["threshold: must be tuned, or a probability between 0 and 1"]),
        (["neutral=[0.6, 0.4]"], ["neutral: must be refuse, drop, tuned, a share between 0 and 1, or [low, high]"]),
        (["neutral=[2, 4]"], ["neutral: low and high are probabilities, from 0 to 1"]),
        (["neutral=[0.4, 0.6]", "threshold=0.4"], ["threshold: the neutral band is the threshold; leave it out"]),
        (["classes=3", "neutral=drop", "threshold=0.4"],
         ["neutral: applies only with two classes; leave it out", "threshold: applies only with two classes; leave it out"]),
        (["classes=score", "labels={0: negative}", "neutral=drop"],
         ["labels: a score has no classes; leave it out", "neutral: a score has a neutral range; write [low, high]"]),
    ],
)  # fmt: skip
def test_conflicting_keys_are_reported(keys: list[str], sentences: list[str]) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, [f"sentiment.{key}" for key in keys], task="sentiment")
    assert str(caught.value).split("\nerror: ") == [f"command line: sentiment.{one}" for one in sentences]


@pytest.mark.parametrize("keys", [[], ["classes=2", "neutral=[0.4, 0.6]"], ["classes=score", "neutral=[2, 4]"],
                                  ["labels={0: neutral, 'not so good': negative}"], ["neutral=0.1", "threshold=0.3"]])  # fmt: skip
def test_a_resolved_recipe_loads_again(keys: list[str]) -> None:
    from pathlib import Path

    from llmkit.recipe.load import dump_recipe

    recipe = load_recipe(None, [f"sentiment.{key}" for key in keys], task="sentiment")
    Path("r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe("r.yaml").options == recipe.options


def outputs(*positive: float) -> list[Any]:
    return [np.array([1 - one, one], dtype=np.float32) for one in positive]


def test_neutral_is_predicted_between_two_cuts() -> None:
    task, _ = fitted(["0", "1"], neutral=[0.3, 0.6])
    assert [one.value for one in task.decode(outputs(0.2, 0.3, 0.59, 0.7), [])] == [
        "negative", "neutral", "neutral", "positive",
    ]  # fmt: skip
    assert list(task.labels) == ["negative", "neutral", "positive"]
    assert task.head().config["num_labels"] == 2
    assert "log_loss" not in task.known_metrics
    assert "log_loss" in fitted(["0", "1"])[0].known_metrics


def test_with_a_band_neutral_rows_are_scored_but_not_trained_on(tiny: str) -> None:
    tokenizer = load_tokenizer(resolve_model(tiny))
    task, notes = fitted(["1", "3", "5", "2"], {"validation": ["3", "4"]}, classes=2, neutral="tuned")
    train = rows(["1", "3", "5", "2"])
    encoded = task.encode_train(train, tokenizer, 16)
    assert [feature["labels"] for feature in encoded.features] == [0, 1, 0]
    assert [train.location(encoded.row_of(i)) for i in range(3)] == ["r.csv:2", "r.csv:4", "r.csv:5"]
    assert [one["labels"] for one in task.encode(train, tokenizer, 16).features] == [0, -100, 1, 0]
    assert task.references(train) == ["negative", "neutral", "positive", "negative"]
    assert notes[-1] == "train: 50.0% negative, 25.0% neutral, 25.0% positive"


def test_a_threshold_is_tuned_on_validation_and_stored() -> None:
    task, _ = fitted(["0", "1"])
    assert task.needs_calibration
    probabilities = [0.6 + i / 1000 for i in range(40)] + [0.8 + i / 1000 for i in range(40)]
    references = ["negative"] * 40 + ["positive"] * 40
    raw = task.decode(outputs(*probabilities), [])
    assert {one.value for one in raw} == {"positive"}
    assert [one.value for one in task.calibrate(references, raw)] == references
    (threshold,) = task.head().config["sentiment"]["thresholds"]
    assert 0.639 < threshold <= 0.72
    assert task.calibration_note() == f"threshold {threshold:.3f}: macro F1 1.000 on validation, 0.333 at 0.5"
    again = reload(task)
    assert [one.value for one in again.decode(outputs(threshold - 0.01, threshold + 0.01), [])] == [
        "negative",
        "positive",
    ]


def test_a_requested_share_of_validation_is_neutral() -> None:
    task, _ = fitted(["0", "1"], {"validation": ["0", "1"]}, neutral=0.25, threshold=0.5)
    raw = task.decode(outputs(*np.linspace(0.05, 0.95, 40)), [])
    found = task.calibrate(["negative"] * 20 + ["positive"] * 20, raw)
    assert [one.value for one in found].count("neutral") == 10
    low, high = task.head().config["sentiment"]["thresholds"]
    share = "25.0% of 40 validation rows, 100.0% of the others right"
    assert task.calibration_note() == f"neutral at a positive probability from {low:.3f} to {high:.3f}: {share}"


def test_a_band_is_tuned_for_neutral_rows() -> None:
    task, _ = fitted(["-1", "1"], {"validation": ["-1", "0", "1"]}, classes=2, neutral="tuned")
    references = ["negative"] * 5 + ["neutral"] * 5 + ["positive"] * 5
    raw = task.decode(outputs(*np.linspace(0.3, 0.8, 15)), [])
    assert [one.value for one in task.calibrate(references, raw)] == references
    again = reload(task)
    assert list(again.labels) == ["negative", "neutral", "positive"]
    assert again.head() == task.head()
    assert "brier" not in again.known_metrics


def test_more_than_two_classes_need_no_calibration() -> None:
    task, _ = fitted(["-1", "0", "1"])
    assert not task.needs_calibration
    raw = task.decode([np.array([0.2, 0.5, 0.3], dtype=np.float32)], [])
    assert raw[0].value == "neutral"
    assert task.calibrate(["positive"], raw) == raw
    assert "thresholds" not in task.head().config["sentiment"]


def test_a_saved_model_accepts_other_spellings() -> None:
    task = reload(fitted(["0", "1"])[0])
    assert task.map_labels(rows(["1", "1"])) == ["positive", "positive"]  # by the scale of its training rows
    assert task.map_labels(rows(["-1", "1"])) == ["negative", "positive"]  # by their own scale
    assert task.map_labels(rows(["5 stars", "1 star", "差评"])) == ["positive", "negative", "negative"]
    assert task.map_labels(rows(["0", "2", "1"])) == ["0", "2", "1"]  # neither: `llmkit eval` needs --label-map
    assert task.filter_rows(rows(["neg", "pos"]))[1] == ["labels: neg = negative, pos = positive"]


def test_a_users_label_words_are_stored_with_the_model() -> None:
    task = reload(fitted(["meh", "wow"], labels={"meh": "negative", "wow": "positive"})[0])
    assert task.map_labels(rows(["wow", "meh"])) == ["positive", "negative"]
    assert task.map_labels(rows(["wow", "0", "1"])) == ["positive", "negative", "positive"]


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["NEGATIVE", "POSITIVE"], ["negative", "positive"]),
        (["1 star", "2 stars", "3 stars", "4 stars", "5 stars"],
         ["very negative", "negative", "neutral", "positive", "very positive"]),
        (["LABEL_0", "LABEL_1"], ["LABEL_0", "LABEL_1"]),
        (["joy", "bad"], ["joy", "bad"]),
    ],
)  # fmt: skip
def test_a_model_of_another_tool_predicts_the_usual_words(names: list[str], labels: list[str]) -> None:
    task = Sentiment()
    task.load_config(BertConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)}))
    assert list(task.labels) == labels


def test_classes_of_a_model_of_another_tool_may_have_any_order() -> None:
    task = Sentiment()
    task.load_config(BertConfig(id2label={0: "pos", 1: "neg"}, label2id={"pos": 0, "neg": 1}))
    assert [one.value for one in task.decode(outputs(0.9, 0.1), [])] == ["negative", "positive"]


@pytest.mark.parametrize(
    "stored",
    [{"thresholds": [0.6, 0.4]}, {"thresholds": ["a"]}, {"thresholds": [0.1, 0.2, 0.3]}, "x", {"thresholds": [None]}],
)
def test_damaged_cuts_are_an_error(stored: Any) -> None:
    config = BertConfig(id2label={0: "negative", 1: "positive"}, sentiment=stored)
    with pytest.raises(ModelError) as caught:
        Sentiment().load_config(config)
    assert (
        str(caught.value) == "the thresholds in the model's config are not ascending numbers; fix its 'sentiment' field"
    )


def test_a_score_with_a_neutral_range_is_a_number_and_a_word() -> None:
    task, notes = fitted(["5 stars", "1.0", "★★★", "4"], classes="score", neutral=[2.5, 3.5])
    assert task.references(rows(["5 stars", "1.0", "★★★", "4"])) == [5.0, 1.0, 3.0, 4.0]
    assert (task.labels, notes) == ((), [])
    assert not isinstance(task.problem_type, SentimentClasses)
    again = reload(task)
    found = again.decode([np.array([one], dtype=np.float32) for one in (1.5, 3.0, 4.5)], [])
    assert [one.as_dict() for one in found] == [
        {"prediction": 1.5, "sentiment": "negative"},
        {"prediction": 3.0, "sentiment": "neutral"},
        {"prediction": 4.5, "sentiment": "positive"},
    ]
    assert reload(fitted(["1", "5"], classes="score")[0]).decode([np.array([1.5], np.float32)], []) == [Prediction(1.5)]


@pytest.mark.slow
@given(
    st.lists(st.floats(0.01, 0.99), min_size=1), st.lists(st.floats(0.01, 0.99), min_size=2, max_size=2, unique=True)
)
def test_a_higher_probability_is_never_predicted_less_positive(probabilities: list[float], band: list[float]) -> None:
    task, _ = fitted(["0", "1"], neutral=sorted(band))
    order = ["negative", "neutral", "positive"]
    predicted = [order.index(one.value) for one in task.decode(outputs(*sorted(probabilities)), [])]
    assert predicted == sorted(predicted)
