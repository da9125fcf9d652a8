"""Tests of a user's own task file, tests/tasks/stars.py: it trains, scores and predicts like a task of llmkit."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import llmkit
from llmkit.errors import DataError
from llmkit.recipe.load import load_recipe
from llmkit.testing import make_reviews, write_jsonl

FILE = Path(__file__).with_name("stars.py")
KEYS = ("task=./stars.py", "stars.most=4", "train.learning_rate=1e-2", "train.per_device_train_batch_size=8")


@pytest.fixture
def data(own_folder: Path) -> str:
    shutil.copy(FILE, "stars.py")
    rows = [{"text": row["text"], "stars": "4" if row["label"] == "good" else "0.5"} for row in make_reviews(60)]
    return write_jsonl("rated.jsonl", rows)


@pytest.mark.slow
def test_it_trains_scores_and_predicts(data: str, tiny: str) -> None:
    run = llmkit.train(None, *KEYS, model=tiny, train=data, epochs=8.0, output_dir="run")
    assert run.report is not None
    assert run.report.metrics["mean_error"].value < 1
    assert load_recipe("run/recipe.yaml").options.most == 4.0
    bad, good = (one["prediction"] for one in llmkit.predict("run", ["awful boring dull", "superb funny great"]))
    assert 0 <= bad < good <= 4
    assert llmkit.evaluate("run", data)["metrics"]["mean_error"]["value"] < 1


def test_its_own_error_for_a_bad_row_comes_before_training(data: str, tiny: str) -> None:
    bad = write_jsonl("bad.jsonl", [*make_reviews(6), {"text": "x", "label": "many"}])
    with pytest.raises(DataError) as caught:
        llmkit.train(None, *KEYS, "data.columns={text: text, stars: label}", model=tiny, train=bad, output_dir="run")
    assert "is not a rating; write 0 to 4" in str(caught.value)
    assert not Path("run").exists()
