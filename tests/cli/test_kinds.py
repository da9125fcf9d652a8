"""Tests of labels, numbers and text pairs by commands: training, scoring, predicting, plain transformers."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import llmkit
from llmkit import cli
from llmkit.errors import UsageError
from llmkit.metrics import regression
from llmkit.metrics.classification import multilabel, probabilities, single_label
from llmkit.tasks.problem_types.multi import tune_label_thresholds
from llmkit.testing import make_reviews, write_jsonl

pytestmark = pytest.mark.slow

FAST = ["train.learning_rate=6e-3", "train.per_device_train_batch_size=8", "train.num_train_epochs=6"]
KNOWN = {
    "multi": multilabel.MULTILABEL_METRICS,
    "csv": multilabel.MULTILABEL_METRICS,
    "regression": regression.REGRESSION_METRICS,
    "pairs": single_label.CLASSIFICATION_METRICS + probabilities.PROBABILITY_METRICS,
}
KINDS = {"multi": "multi", "csv": "multi", "regression": "regression", "pairs": "single"}
MORE = {
    "multi": ["classify.thresholds=each", "data.split.validation=0.3", "train.num_train_epochs=14"],
    "csv": ['classify.separator="; "', "classify.class_weights=balanced"],
}


def write_rows(kind: str, rows: int, seed: int = 0) -> Path:
    """A file of reviews with several labels, with a number, or with pairs of texts."""
    made = make_reviews(rows, seed)
    sets = [[row["label"], *(["long"] if len(row["text"]) > 40 else [])] if i % 7 else [] for i, row in enumerate(made)]
    if kind == "multi":
        return Path(write_jsonl("rows.jsonl", [row | {"label": some} for row, some in zip(made, sets, strict=True)]))
    if kind == "pairs":
        return Path(write_jsonl("rows.jsonl", [row | {"text_pair": " ".join(row["text"].split()[:3])} for row in made]))
    cells = ["; ".join(some) for some in sets]
    if kind == "regression":
        cells = [f"{(40 if row['label'] == 'good' else 10) + i % 5}.5" for i, row in enumerate(made)]
    lines = ["text,stars", *(f"{row['text']},{cell}" for row, cell in zip(made, cells, strict=True))]
    Path("rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path("rows.csv")


@pytest.fixture(scope="module")
def runs(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns a finished run of a problem type next to its rows, which is trained on first use."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(home)
                keys = [*FAST, *MORE.get(kind, []), f"classify.kind={KINDS[kind]}"]
                keys.append(f"eval.metrics=[{', '.join(KNOWN[kind])}]")
                words = ["--train", str(write_rows(kind, 90)), "--model", tiny, "-o", "run"]
                assert cli.run_command_line(["finetune-classify", *words, *keys]) == 0
            made[kind] = home / "run"
        return made[kind]

    return get


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def score_again(kind: str, rows: list[dict[str, Any]], labels: list[str]) -> dict[str, Any]:
    """Every metric, computed from predictions.jsonl alone."""
    references, predictions = [row["reference"] for row in rows], [row["prediction"] for row in rows]
    if kind == "regression":
        return regression.score_regression(regression.REGRESSION_METRICS, references, predictions)
    class_probabilities = np.array([[row["probabilities"][label] for label in labels] for row in rows])
    if kind == "pairs":
        scores = single_label.score_classification(single_label.CLASSIFICATION_METRICS, references, predictions, labels)
        return scores | probabilities.score_probabilities(
            probabilities.PROBABILITY_METRICS, references, class_probabilities, labels
        )
    return multilabel.score_multilabel(
        multilabel.MULTILABEL_METRICS, references, predictions, labels, class_probabilities
    )


@pytest.mark.parametrize("kind", KNOWN)
def test_every_score_follows_from_the_predictions(runs: Callable[[str], Path], kind: str) -> None:
    run = runs(kind)
    metrics = read_json(run / "metrics.json")
    again = score_again(kind, read_lines(run / "predictions.jsonl"), metrics["labels"])
    assert list(metrics["metrics"]) == list(KNOWN[kind])
    for name, score in metrics["metrics"].items():
        expected = again[name].as_dict()
        for key in ("value", "low", "high"):
            assert score[key] == pytest.approx(expected[key], rel=0, abs=1e-9, nan_ok=True), (name, key)
        assert score["signature"] == expected["signature"]


@pytest.mark.parametrize("kind", KNOWN)
def test_eval_gives_the_numbers_of_the_run(
    runs: Callable[[str], Path], kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs(kind).parent)
    assert cli.run_command_line(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(Path("run/metrics.json"))


@pytest.mark.parametrize(
    ("kind", "baselines"),
    [("multi", {"majority", "tfidf"}), ("regression", {"mean", "tfidf"}), ("pairs", {"majority", "tfidf"})],
)
def test_baselines_have_the_same_metrics(runs: Callable[[str], Path], kind: str, baselines: set[str]) -> None:
    metrics = read_json(runs(kind) / "metrics.json")
    assert set(metrics["baselines"]) == baselines
    assert all(list(scores) == list(KNOWN[kind]) for scores in metrics["baselines"].values())


def test_a_tiny_model_learns_labels_and_numbers(runs: Callable[[str], Path]) -> None:
    assert read_json(runs("multi") / "metrics.json")["metrics"]["micro_f1"]["value"] > 0.75
    numbers = read_json(runs("regression") / "metrics.json")
    assert numbers["metrics"]["pearson"]["value"] > 0.8
    assert numbers["metrics"]["rmse"]["value"] < numbers["baselines"]["mean"]["rmse"]["value"]


@pytest.mark.parametrize("kind", ["multi", "csv"])
def test_predictions_are_the_labels_above_their_thresholds(runs: Callable[[str], Path], kind: str) -> None:
    config = read_json(runs(kind) / "model/config.json")
    labels = [config["id2label"][str(i)] for i in range(3)]
    assert labels == ["bad", "good", "long"]
    assert config["problem_type"] == "multi_label_classification"
    thresholds = dict(zip(labels, config["thresholds"], strict=True))
    assert (len(set(thresholds.values())) == 1) == (kind == "csv")
    for row in read_lines(runs(kind) / "predictions.jsonl"):
        assert row["prediction"] == [label for label, p in row["probabilities"].items() if p >= thresholds[label]]


@pytest.mark.parametrize("kind", ["multi", "csv"])
def test_thresholds_are_tuned_with_the_saved_model(
    runs: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The weights are those of the best evaluation, not of the last: the thresholds must match them."""
    run = runs(kind)
    monkeypatch.chdir(run.parent)
    rows = predict_validation(run)
    labels = ["bad", "good", "long"]
    class_probabilities = np.array([[row["probabilities"][label] for label in labels] for row in rows])
    references = np.array([[label in row["reference"] for label in labels] for row in rows])
    assert read_json(run / "model/config.json")["thresholds"] == tune_label_thresholds(
        references, class_probabilities, kind == "multi"
    )


def predict_validation(run: Path) -> list[dict[str, Any]]:
    """The predictions for the run's validation rows, with their references."""
    from llmkit.data.prepare import read_splits
    from llmkit.inference.load_saved import load_saved_model

    saved = load_saved_model(str(run))
    assert saved.recipe is not None
    rows = read_splits(saved.recipe.data, saved.task).holdout["validation"]
    texts, references = rows.texts("text"), saved.task.references(rows)
    predictions = llmkit.predict(str(run), texts)
    return [one | {"reference": reference} for one, reference in zip(predictions, references, strict=True)]


@pytest.mark.parametrize(("threshold", "prediction"), [(0.0, ["bad", "good", "long"]), (1.0, [])])
def test_predict_uses_the_thresholds_of_the_config(
    runs: Callable[[str], Path], threshold: float, prediction: list[str]
) -> None:
    shutil.copytree(runs("multi") / "model", "model")
    config = read_json(Path("model/config.json"))
    Path("model/config.json").write_text(json.dumps(config | {"thresholds": [threshold] * 3}), encoding="utf-8")
    assert [one["prediction"] for one in llmkit.predict("model", ["a great film", "dull"])] == [prediction] * 2


def test_predict_prints_labels_as_json(runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["predict", str(runs("multi")), "a great lovely superb film 3"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert "good" in record["prediction"]
    assert set(record["probabilities"]) == {"bad", "good", "long"}


def test_plain_transformers_predicts_in_the_unit_of_the_file(runs: Callable[[str], Path]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(runs("regression") / "model")
    tokenizer = AutoTokenizer.from_pretrained(runs("regression") / "model")
    rows = read_lines(runs("regression") / "predictions.jsonl")
    batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        numbers = model(**batch).logits
    assert numbers.shape == (len(rows), 1)
    assert [row["prediction"] for row in rows] == pytest.approx(numbers[:, 0].tolist(), rel=1e-5)
    assert 5 < numbers.min() < 20 < 35 < numbers.max() < 50
    assert (model.config.id2label, model.config.problem_type) == ({0: "stars"}, "regression")


def test_a_regression_run_continues_in_its_own_unit(
    runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that starts from the saved head with a tiny learning rate predicts as before."""
    data = str(write_rows("regression", 40, seed=5))
    keys = ["train.learning_rate=1e-12", "train.max_steps=1", "classify.kind=regression", "eval.baselines=[]"]
    model = str(runs("regression") / "model")
    assert cli.run_command_line(["finetune-classify", "--train", data, "--model", model, "-o", "again", *keys]) == 0
    assert "fresh" not in capsys.readouterr().err
    texts = ["a great film", "dull and boring"]
    before, after = ([one["prediction"] for one in llmkit.predict(name, texts)] for name in (model, "again"))
    assert after == pytest.approx(before, rel=1e-4)


def test_text_pairs_are_given_two_by_two(runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs("pairs"))
    assert cli.run_command_line(["predict", run, "a great film", "great", "dull", "a dull one"]) == 0
    record = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["text_pair"]) for one in record] == [("a great film", "great"), ("dull", "a dull one")]
    assert cli.run_command_line(["predict", run, "a", "b", "c"]) == 64
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {run} needs pairs, and texts are 3; give them two by two"
    )
    tuples = llmkit.predict(run, [("a great film", "great"), ("dull", "a dull one")])
    assert [one["probabilities"] for one in tuples] == [one["probabilities"] for one in record]
    fix = "give one text per row, or a tuple of two for a model of pairs"
    for wrong, found in ((("a", "b", "c"), "3 texts"), (("a",), "1 text")):
        with pytest.raises(UsageError) as caught:
            llmkit.predict(run, [wrong])  # type: ignore[list-item]
        assert str(caught.value) == f"texts: row 1 has {found}, and {run} needs text and text_pair; {fix}"


def test_text_pairs_of_stdin_are_separated_by_a_tab(
    runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(runs("pairs"))

    def stdin(text: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return cli.run_command_line(["predict", run])

    assert stdin("a great film\tgreat\n\ndull\ta dull one\n") == 0
    record = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["text_pair"]) for one in record] == [("a great film", "great"), ("dull", "a dull one")]
    for wrong, found in {"a\tb\nlonely\n": "stdin:2: 1 text", "a\tb\tc\n": "stdin:1: 3 texts"}.items():
        assert stdin(wrong) == 65
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"error: {found}, and the model needs pairs; separate two texts by a tab"
        )


def test_a_file_of_pairs_is_read_by_its_columns(runs: Callable[[str], Path]) -> None:
    rows = [{"text": "a great film", "text_pair": "great", "id": 7}]
    (record,) = llmkit.predict(str(runs("pairs")), data=write_jsonl("in.jsonl", rows))
    assert (record["id"], record["text_pair"]) == (7, "great")
    assert (
        record["probabilities"] == llmkit.predict(str(runs("pairs")), [("a great film", "great")])[0]["probabilities"]
    )


def test_the_second_text_column_is_never_guessed(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    from llmkit.cli import run_command_line

    rows = [{"a": row["text"], "b": f"it is {row['label']}", "label": row["label"]} for row in make_reviews(40)]
    write_jsonl("pairs.jsonl", rows)
    write_jsonl("single.jsonl", [{"text": row["a"], "label": row["label"]} for row in rows])
    words = ["finetune-classify", "--train", "pairs.jsonl", "--text", "a", "--text-pair", "b", "--model", tiny]
    assert run_command_line([*words, "train.max_steps=1", "-o", "pairs"]) == 0
    capsys.readouterr()
    assert run_command_line(["predict", "pairs", "--data", "single.jsonl"]) == 65
    assert "no column 'text_pair'" in capsys.readouterr().err
    renamed = [{"x": row["a"], "y": row["b"], "label": row["label"]} for row in rows]
    write_jsonl("other.jsonl", renamed)
    for command in ("eval", "predict"):
        assert run_command_line([command, "pairs", "--data", "other.jsonl", "--text", "x", "--text-pair", "y"]) == 0
