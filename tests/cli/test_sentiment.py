"""Tests of sentiment by commands: training, scoring files with other label names, predicting, plain transformers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSequenceClassification

import llmkit
from llmkit import cli
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl, write_lines

pytestmark = pytest.mark.slow

FAST = ["train.learning_rate=6e-3", "train.per_device_train_batch_size=8", "train.num_train_epochs=5"]
STARS = {"bad": ("1 star", "2 stars"), "good": ("4 stars", "5 stars")}


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def make_starred_reviews(rows: int) -> list[dict[str, str]]:
    """Reviews with stars; each fifth has three stars and no word of sentiment."""
    made = [row | {"label": STARS[row["label"]][i % 4 // 2]} for i, row in enumerate(make_reviews(rows))]
    return [{"text": f"the film of {i}", "label": "3 stars"} if i % 5 == 4 else row for i, row in enumerate(made)]


@pytest.fixture(scope="module")
def banded(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of two classes on stars, which predicts neutral between two tuned thresholds."""
    home = tmp_path_factory.mktemp("banded")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write_jsonl("stars.jsonl", make_starred_reviews(300))
        keys = [*FAST, "sentiment.classes=2", "sentiment.neutral=tuned", "data.split.validation=0.25"]
        assert (
            cli.run_command_line(["finetune-sentiment", "--train", "stars.jsonl", "--model", tiny, "-o", "run", *keys])
            == 0
        )
    return home / "run"


def test_two_classes_predict_neutral_between_the_thresholds(banded: Path) -> None:
    config = read_json(banded / "model/config.json")
    assert config["id2label"] == {"0": "negative", "1": "positive"}
    low, high = config["sentiment"]["thresholds"]
    assert low < high
    metrics = read_json(banded / "metrics.json")
    assert metrics["labels"] == ["negative", "neutral", "positive"]
    assert set(metrics["baselines"]) == {"majority", "tfidf", "lexicon"}
    assert metrics["metrics"]["accuracy"]["value"] > 0.8
    rows = read_lines(banded / "predictions.jsonl")
    assert {row["reference"] for row in rows} == {"negative", "neutral", "positive"}
    for row in rows:
        p = row["probabilities"]["positive"]
        assert row["prediction"] == ("negative" if p < low else "positive" if p >= high else "neutral")
        assert row["label"].endswith((" star", " stars"))  # the file's own cell is kept
    right = sum(row["prediction"] == row["reference"] for row in rows) / len(rows)
    assert metrics["metrics"]["accuracy"]["value"] == pytest.approx(right)


def test_eval_gives_the_numbers_of_the_run(
    banded: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(banded.parent)
    assert cli.run_command_line(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(Path("run/metrics.json"))


def test_the_model_folder_predicts_like_the_run(banded: Path) -> None:
    """Its thresholds are in its config, so that a copy of the folder is a sentiment model too."""
    texts = ["a great lovely film", "dull and boring", "the film of 4"]
    predictions = [llmkit.predict(str(name), texts) for name in (banded, banded / "model")]
    assert predictions[0] == predictions[1]
    assert [one["prediction"] for one in predictions[0]][:2] == ["positive", "negative"]
    model = AutoModelForSequenceClassification.from_pretrained(banded / "model")
    assert model.config.id2label == {0: "negative", 1: "positive"}


def test_the_thresholds_are_printed_before_the_predictions(banded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low, high = read_json(banded / "model/config.json")["sentiment"]["thresholds"]
    assert cli.run_command_line(["predict", str(banded), "the film of 4"]) == 0
    captured = capsys.readouterr()
    assert captured.err == f"neutral at a positive probability from {low:.3f} to {high:.3f} (stored with the model)\n"
    assert len(captured.out.splitlines()) == 1


def test_other_label_names_are_scored_and_unknown_ones_rejected(
    banded: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_reviews(60, seed=3)
    write_jsonl("numbers.jsonl", [row | {"label": int(row["label"] == "good")} for row in made])
    write_jsonl("words.jsonl", [row | {"label": {"good": "好评", "bad": "差评"}[row["label"]]} for row in made])
    values = []
    for name, mapping in {
        "numbers.jsonl": "0 = negative, 1 = positive",
        "words.jsonl": "差评 = negative, 好评 = positive",
    }.items():
        assert cli.run_command_line(["eval", str(banded), "--data", name, "--json"]) == 0
        out, err = capsys.readouterr()
        assert f"labels: {mapping}" in err.splitlines()
        values.append(json.loads(out)["metrics"]["accuracy"]["value"])
    assert values[0] == values[1] > 0.6  # with swapped labels it would be below one half
    write_jsonl("strange.jsonl", [row | {"label": {"good": "pos", "bad": "meh"}[row["label"]]} for row in made])
    assert cli.run_command_line(["eval", str(banded), "--data", "strange.jsonl"]) == 65
    assert "strange.jsonl:1: label 'meh' of column 'label' is not a label of the model" in capsys.readouterr().err
    assert (
        cli.run_command_line(["eval", str(banded), "--data", "strange.jsonl", "--label-map", "meh=negative", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] == values[0]


def test_predictions_are_formatted_with_probabilities() -> None:
    from llmkit.cli.predict import format_prediction, format_probabilities

    probabilities = {"negative": 0.55, "positive": 0.45}
    neutral = {"prediction": "neutral", "probabilities": probabilities}
    sure = {"prediction": "negative", "probabilities": probabilities}
    assert (format_prediction(neutral), format_probabilities(neutral)) == ("neutral", "negative 0.550, positive 0.450")
    assert (format_prediction(sure), format_probabilities(sure)) == ("negative", "0.550")
    assert format_prediction({"prediction": 3.0, "sentiment": "neutral"}) == "3.0000 neutral"


def test_files_named_by_label_and_a_recipe_of_any_task(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    for label in ("good", "bad"):
        write_lines(f"{label}.txt", [row["text"] for row in make_reviews(40) if row["label"] == label])
    Path("r.yaml").write_text(
        "task: sentiment\ndata:\n  train: {好评: good.txt, 差评: bad.txt}\ntrain: {max_steps: 2}\n", encoding="utf-8"
    )
    assert cli.run_command_line(["train", "r.yaml", "--model", tiny, "-o", "run", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["labels"] == ["negative", "positive"]
    hint = "(guessed; change it with sentiment.labels={...})"
    assert f"labels: 差评 = negative, 好评 = positive {hint}" in err.splitlines()
    assert "validation has fewer than 20 rows of a class: the threshold stays at 0.5" in err.splitlines()
    assert cli.run_command_line(["train", "run/recipe.yaml", "-o", "again"]) == 0
    capsys.readouterr()
    assert read_json(Path("again/metrics.json")) == read_json(Path("run/metrics.json"))
    assert cli.run_command_line(["finetune-sentiment", "r.yaml", "--model", tiny, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"train": 32, "validation": 4, "test": 4}


def test_a_score_is_predicted_with_a_number_and_a_word(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("stars.jsonl", make_starred_reviews(60))
    keys = [*FAST, "sentiment.classes=score", "sentiment.neutral=[2.5, 3.5]"]
    assert (
        cli.run_command_line(["finetune-sentiment", "--train", "stars.jsonl", "--model", tiny, "-o", "run", *keys]) == 0
    )
    assert set(read_json(Path("run/metrics.json"))["baselines"]) == {"mean", "tfidf", "lexicon"}
    for name in ("run", "run/model"):
        (record,) = llmkit.predict(name, "a great lovely superb film")
        assert record["sentiment"] == ("positive" if record["prediction"] > 3.5 else "neutral")
    rows = read_lines(Path("run/predictions.jsonl"))
    assert all(type(row["reference"]) is float for row in rows)


def test_a_rejected_label_leaves_nothing_behind(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"label": i % 3} for i, row in enumerate(make_reviews(30))]
    write_jsonl("rows.jsonl", rows)
    words = ["finetune-sentiment", "--train", "rows.jsonl", "--model", tiny]
    assert cli.run_command_line(words) == 65
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: rows.jsonl:1: labels 0, 1, 2 of column 'label' are ambiguous; map each label, such as "
        "sentiment.labels='{0: negative, 1: neutral, 2: positive}'"
    )
    assert [path.name for path in Path().iterdir()] == ["rows.jsonl"]
    fixed = "sentiment.labels={0: negative, 1: neutral, 2: positive}"
    assert cli.run_command_line([*words, fixed, "train.max_steps=1", "-o", "run"]) == 0
    assert read_json(Path("run/metrics.json"))["labels"] == ["negative", "neutral", "positive"]


def test_empty_and_unknown_labels_are_named(banded: Path, tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    labels = {3: "mixed", 7: " ", 9: "n/a"}
    write_jsonl("rows.jsonl", [row | {"label": labels.get(i, "pos")} for i, row in enumerate(make_reviews(20))])
    assert cli.run_command_line(["finetune-sentiment", "--train", "rows.jsonl", "--model", tiny]) == 65
    assert [line.split(";")[0] for line in capsys.readouterr().err.splitlines()] == [
        "error: rows.jsonl:4: 'label' is 'mixed', not a known sentiment (the first of 3 bad rows)",
        "  rows.jsonl:4: 'label' is 'mixed', not a known sentiment",
        "  rows.jsonl:8: 'label' is an empty label",
        "  rows.jsonl:10: 'label' is 'n/a', not a known sentiment",
    ]
    assert cli.run_command_line(["eval", str(banded), "--data", "rows.jsonl"]) == 65
    assert "error: rows.jsonl:8: 'label' is an empty label; write its class\n" in capsys.readouterr().err
    keys = ["sentiment.classes=score", "--model", tiny]
    assert cli.run_command_line(["finetune-sentiment", "--train", "rows.jsonl", *keys]) == 65
    assert "rows.jsonl:" in capsys.readouterr().err


def test_another_task_starts_from_sentiment_weights_without_thresholds(banded: Path) -> None:
    write_jsonl("rows.jsonl", make_reviews(30))
    keys = ["train.max_steps=1", "eval.baselines=[]"]
    words = ["--train", "rows.jsonl", "--model", str(banded), "-o", "run"]
    assert cli.run_command_line(["finetune-classify", *words, *keys]) == 0
    assert "sentiment" not in read_json(Path("run/model/config.json"))
    assert {one["prediction"] for one in llmkit.predict("run/model", ["great", "dull"])} <= {"good", "bad"}


def test_five_classes_are_scored_on_two_by_polarity(capsys: pytest.CaptureFixture[str]) -> None:
    """Predicting `very positive` is correct for a row whose file knows only `positive`."""
    names = [f"{number} star{'s' if number > 1 else ''}" for number in range(1, 6)]
    for seed, folder in enumerate(("stars", "others")):
        about = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
        make_tiny_model(folder, auto_class="AutoModelForSequenceClassification", seed=seed, **about)
    write_jsonl("rows.jsonl", make_reviews(40))
    words = ["--task", "sentiment", "--data", "rows.jsonl"]
    assert cli.run_command_line(["eval", "stars", *words, "-o", "out"]) == 0
    message = "these labels have no strength: very positive counts as positive, very negative as negative\n"
    assert message in capsys.readouterr().err
    assert read_json(Path("out/metrics.json"))["labels"] == ["negative", "neutral", "positive"]
    five = llmkit.predict("stars", data="rows.jsonl", task="sentiment")
    for row, one in zip(read_lines(Path("out/predictions.jsonl")), five, strict=True):
        very = one["probabilities"]["very positive"]
        assert row["probabilities"]["positive"] == pytest.approx(one["probabilities"]["positive"] + very, abs=1e-6)
    assert cli.run_command_line(["eval", "stars", "others", *words]) == 0
    write_jsonl("rows.jsonl", [row | {"label": i % 5 + 1} for i, row in enumerate(make_reviews(40))])
    assert cli.run_command_line(["eval", "stars", *words, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out.splitlines()[-1])["labels"]) == 5


def test_a_classifier_and_a_sentiment_model_are_compared(
    finished: Path, banded: Path, tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl("rows.jsonl", [row | {"label": int(row["label"] == "good")} for row in make_reviews(24)])
    words = ["finetune-sentiment", "--train", "rows.jsonl", "--model", tiny, "train.max_steps=1", "-o", "run"]
    assert cli.run_command_line(words) == 0
    Path("classes").symlink_to(finished)
    Path("banded").symlink_to(banded)
    capsys.readouterr()
    assert cli.run_command_line(["eval", "run", "classes", "--data", "rows.jsonl"]) == 65
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: classes is a model of the task classify, and run of sentiment; "
        "if classes can be one too, open both with --task sentiment"
    )
    assert (
        cli.run_command_line(["eval", "run", "classes", "--data", "rows.jsonl", "--task", "sentiment", "--json"]) == 0
    )
    both = json.loads(capsys.readouterr().out)["models"]
    assert [one["labels"] for one in both] == [["negative", "positive"]] * 2
    assert both[1]["metrics"]["accuracy"]["value"] > 0.8
    assert cli.run_command_line(["eval", "run", "banded", "--data", "rows.jsonl"]) == 65
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: banded has the labels negative, neutral, positive, and run negative, positive; "
        "compare models with the same labels"
    )
