"""The lexicon baseline: its predictions, languages and availability."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.data.rows import Rows, build_rows
from llmkit.errors import RecipeError
from llmkit.evaluation import baselines, lexicon
from llmkit.recipe.load import load_recipe
from llmkit.tasks import sentiment
from llmkit.tasks.sentiment import Sentiment, SentimentOptions

LIKED, LOATHED, FLAT = "this is a great and wonderful film", "it was an awful, terrible bore", "the train is on the way"
TEXTS = [LIKED, LOATHED, FLAT]
CHINESE = ["味道很好，送得也很快", "太难吃了"]


def make_rows(texts: list[str], labels: list[str]) -> Rows:
    found = build_rows({"text": texts, "label": labels}, "r.csv", range(2, len(texts) + 2))
    return found.with_column_mapping({"text": "text", "label": "label"})


def fit_task(train: Rows, **options: Any) -> Sentiment:
    task = Sentiment(SentimentOptions(**options))
    task.fit(task.filter_rows(train)[0], {})
    return task


def predict(labels: list[str], **options: Any) -> list[Any]:
    train = make_rows([f"the {label} {i}" for i, label in enumerate(labels)], labels)
    found = lexicon.predict_lexicon(fit_task(train, **options), train, make_rows(TEXTS, ["pos"] * 3))
    assert found is not None
    return [one.value for one in found]


def test_two_classes_use_the_sign_else_the_more_frequent_class() -> None:
    assert predict(["pos", "neg", "neg"]) == ["positive", "negative", "negative"]
    assert predict(["pos", "neg", "pos"]) == ["positive", "negative", "positive"]


def test_several_classes_use_the_nearest_class() -> None:
    assert predict(["pos", "neg", "neu"]) == ["positive", "negative", "neutral"]
    assert predict(["1", "2", "3", "4", "5"])[2] == "neutral"
    assert predict(["1 star", "5 stars"])[:2] == ["very positive", "very negative"]


def test_numbers_are_on_a_line_fitted_to_the_training_rows() -> None:
    train = make_rows([LIKED, LOATHED, FLAT], ["40", "10", "25"])
    task = fit_task(train, classes="score")
    (good, bad, flat) = (one.value for one in lexicon.predict_lexicon(task, train, train) or [])
    assert good == pytest.approx(40, abs=2)
    assert bad == pytest.approx(10, abs=2)
    assert flat == pytest.approx(25, abs=2)
    same = make_rows([FLAT, FLAT], ["1", "3"])
    assert [one.value for one in lexicon.predict_lexicon(task, same, train) or []] == [2.0] * 3


def test_other_languages_get_no_lexicon_baseline(capsys: pytest.CaptureFixture[str]) -> None:
    train = make_rows(CHINESE, ["好评", "差评"])
    task = fit_task(train)
    assert "lexicon" in task.baselines
    assert list(baselines.predict_baselines(task, task.baselines, train, train)) == ["majority", "tfidf"]
    note = "no lexicon baseline: VADER's lexicon is English, and these texts are not"
    assert capsys.readouterr().err.splitlines() == [note]
    for foreign in ("le film est très beau et je suis content", "der Film war nicht schlecht, aber lang"):
        assert not lexicon.is_english([foreign])
    assert all(lexicon.is_english([text]) for text in TEXTS)


def test_without_its_package_it_is_no_default_and_raises_if_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_recipe(None, ["eval.baselines=[lexicon]"], task="sentiment").eval.baselines == ["lexicon"]
    monkeypatch.setattr(sentiment, "find_spec", lambda name: None)
    assert list(Sentiment().baselines) == ["majority", "tfidf"]
    with pytest.raises(RecipeError) as caught:
        load_recipe(None, ["eval.baselines=[lexicon]"], task="sentiment")
    needs = "it needs vaderSentiment; pip install 'llmkit[sentiment]'"
    assert str(caught.value) == f"command line: eval.baselines: no baseline 'lexicon': {needs}"
    with pytest.raises(RecipeError, match="unknown baseline 'lexicon'; known: majority, tfidf"):
        load_recipe(None, ["eval.baselines=[lexicon]"], task="classify")
