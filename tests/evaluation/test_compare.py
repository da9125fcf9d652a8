"""Comparisons score models on the same rows with paired differences, and reject other models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import llmkit
from llmkit import cli
from llmkit.errors import DataError, ModelError, UsageError
from llmkit.evaluation.compare import make_folder_names
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl

NAMES = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}


@pytest.fixture
def home(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the folder of the run, where its recipe finds reviews.jsonl; return the run."""
    monkeypatch.chdir(finished.parent)
    return finished


@pytest.fixture
def other(tmp_path: Path) -> str:
    return write_jsonl(tmp_path / "other.jsonl", make_reviews(60, seed=8))


@pytest.mark.slow
def test_two_models_are_scored_on_the_same_rows(home: Path, tiny_classifier: str, other: str) -> None:
    found = llmkit.compare([home, tiny_classifier], other, metrics=["accuracy", "log_loss"])
    assert found["models"][0] == llmkit.evaluate(str(home), other, metrics=["accuracy", "log_loss"])
    assert found["models"][1]["baselines"] == {}
    (change,) = found["differences"]
    assert (change["model"], change["against"]) == (tiny_classifier, str(home))
    for name in ("accuracy", "log_loss"):
        first, second = (report["metrics"][name]["value"] for report in found["models"])
        numbers = change["metrics"][name]
        assert numbers["value"] == pytest.approx(second - first, abs=1e-12)
        assert numbers["low"] <= numbers["value"] <= numbers["high"]


@pytest.mark.slow
def test_differences_do_not_depend_on_row_order(home: Path, tiny_classifier: str, tmp_path: Path) -> None:
    rows = make_reviews(40, seed=8)
    files = [write_jsonl(tmp_path / name, some) for name, some in (("a.jsonl", rows), ("b.jsonl", rows[::-1]))]
    one, two = (llmkit.compare([home, tiny_classifier], file)["differences"] for file in files)
    assert one == two


@pytest.mark.slow
def test_the_table_has_models_baselines_and_differences(
    home: Path, tiny_classifier: str, other: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line(["eval", home.name, tiny_classifier, "--data", other, "--metric", "accuracy"]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " does not beat " not in line]
    *_, one, two, most, words, change, verdict = lines
    firsts = [line.split("  ")[0] for line in (one, two, most, words, change)]
    baselines = ["majority class", "TF-IDF + logistic regression"]
    assert firsts == [home.name, tiny_classifier, *baselines, f"{tiny_classifier} - {home.name}"]
    assert verdict.startswith(f"{tiny_classifier} is worse than {home.name} in accuracy by 0.")


def test_messages_about_the_same_rows_are_printed_once(
    tiny_classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    second = make_tiny_model("second", auto_class="AutoModelForSequenceClassification", **NAMES)
    rows = [{"review": row["text"], "verdict": row["label"].upper()} for row in make_reviews(20, seed=8)]
    file = write_jsonl("o.jsonl", [*rows, {"review": " ", "verdict": "BAD"}])
    llmkit.compare([tiny_classifier, second], file, metrics=["accuracy"], keys=["data.on_empty=skip"])
    messages = capsys.readouterr().err.splitlines()
    for word in ("review", "on_empty", "labels matched"):
        assert sum(word in line for line in messages) == 1, messages
    assert len(set(messages)) == len(messages)


@pytest.mark.slow
def test_without_data_the_first_runs_rows_are_used_with_a_message(
    home: Path, tiny_classifier: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = str(shutil.copytree(home, tmp_path / "copy"))
    assert cli.run_command_line(["eval", home.name, tiny_classifier, copy, "--json"]) == 0
    captured = capsys.readouterr()
    assert (
        "all are scored on the test rows of run; a run that was trained on some of them gets too high scores; "
        "use other rows with --data\n"
    ) in captured.err
    found = json.loads(captured.out)
    assert [report["split"] for report in found["models"]] == ["test", "test", "test"]
    assert found["models"][0]["metrics"] == found["models"][2]["metrics"]
    assert found["differences"][1]["metrics"]["accuracy"] == {"value": 0, "low": 0, "high": 0}


@pytest.mark.slow
def test_equal_models_have_no_difference(home: Path, other: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["eval", home.name, f"{home.name}/model", "--data", other, "data.encoding=utf-8"]) == 0
    assert (
        "no significant difference between run/model and run in accuracy: it is 0.000 [0.000, 0.000]"
        in capsys.readouterr().out
    )


def test_each_model_gets_its_own_folder(home: Path, tiny_classifier: str, other: str, tmp_path: Path) -> None:
    found = llmkit.compare([home.name, tiny_classifier], other, output_dir=str(tmp_path / "out"))
    one, two = make_folder_names([home.name, tiny_classifier])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted([one, two])
    for name, report in zip((one, two), found["models"], strict=True):
        assert json.loads((tmp_path / "out" / name / "metrics.json").read_text(encoding="utf-8")) == report
        assert len((tmp_path / "out" / name / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 60


def test_folder_names_are_safe_and_unique() -> None:
    assert make_folder_names(["runs/a", "../runs/a", "runs a", "..", "我", "x/y@main"]) == [
        "runs-a", "runs-a-2", "runs-a-3", "model", "model-2", "x-y-main",
    ]  # fmt: skip


@pytest.mark.slow
def test_models_of_other_problems_are_rejected_before_loading(
    home: Path, other: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = {"auto_class": "AutoModelForSequenceClassification"}
    numbers, three = make_tiny_model("numbers", num_labels=1, **head), make_tiny_model("three", num_labels=3, **head)
    for model in (numbers, three):
        (Path(model) / "model.safetensors").unlink()
    with pytest.raises(ModelError) as error:
        llmkit.compare([home.name, numbers], other)
    assert str(error.value) == (
        "numbers has another problem type than run: it is scored by pearson, spearman, rmse, not by accuracy, "
        "macro_f1; compare models of one problem type"
    )
    with pytest.raises(ModelError) as error:
        llmkit.compare([home.name, three], other)
    assert str(error.value) == (
        "three has the labels LABEL_0, LABEL_1, LABEL_2, and run bad, good; compare models with the same labels"
    )
    with pytest.raises(UsageError) as usage:
        llmkit.compare([home.name], other)
    assert str(usage.value) == "1 model to compare; name two or more"


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (["run", "run"], "run: named twice; name each model once"),
        (["run", "a/hub-id", "./run/"], "./run/: named twice (as run too); name each model once"),
        (["a/hub-id", "a/hub-id"], "a/hub-id: named twice; name each model once"),
    ],
)
def test_duplicate_models_are_rejected(
    models: list[str], sentence: str, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line(["eval", *models]) == 64
    assert capsys.readouterr().err == f"error: {sentence}\n"


@pytest.mark.slow
def test_different_references_are_rejected(tiny: str, home: Path, tmp_path: Path) -> None:
    rows = [row | {"verdict": {"bad": "good", "good": "bad"}[row["label"]]} for row in make_reviews(30)]
    file = write_jsonl(tmp_path / "r.jsonl", rows)
    keys = ("train.max_steps=1", "train.eval_strategy=no")
    run = llmkit.train(
        None, *keys, task="classify", model=tiny, train=file, label="verdict", output_dir=str(tmp_path / "b")
    )
    with pytest.raises(DataError) as error:
        llmkit.compare([home.name, run.path], file)
    assert str(error.value) == (
        f"{file}:1: {run.path} reads the reference 'good', and run 'bad'; name the column for all models with --label"
    )
    assert llmkit.compare([home.name, run.path], file, label="label")["differences"]


@pytest.mark.slow
def test_different_rows_are_rejected(tiny: str, home: Path, tmp_path: Path) -> None:
    keys = ("train.max_steps=1", "train.eval_strategy=no", "data.on_empty=skip")
    data = write_jsonl(tmp_path / "r.jsonl", make_reviews(30))
    llmkit.train(None, *keys, task="classify", model=tiny, train=data, output_dir=str(tmp_path / "b"))
    file = write_jsonl(tmp_path / "o.jsonl", [*make_reviews(6), {"text": " ", "label": "bad"}])
    with pytest.raises(DataError):
        llmkit.compare([str(tmp_path / "b"), home.name], file)
    assert llmkit.compare([str(tmp_path / "b"), home.name], file, keys=["data.on_empty=skip"])["models"][1]["n"] == 6


@pytest.mark.slow
def test_a_metric_of_the_evaluate_library_is_compared(
    home: Path, tiny_classifier: str, other: str, tmp_path: Path
) -> None:
    script = """import datasets
import evaluate


class Mine(evaluate.Metric):
    def _info(self):
        one = datasets.Value("int32")
        features = datasets.Features({"predictions": one, "references": one})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        right = [float(a == b) for a, b in zip(predictions, references)]
        return {"share": sum(right) / len(right), "each": right}
"""
    (tmp_path / "mine.py").write_text(script)
    name = f"evaluate:{tmp_path / 'mine.py'}"
    found = llmkit.compare([home.name, tiny_classifier], other, metrics=[name, "accuracy"])
    by = found["differences"][0]["metrics"]
    assert list(by) == [f"{name}.each", f"{name}.share", "accuracy"]
    assert by[f"{name}.each"]["value"] == pytest.approx(by["accuracy"]["value"])
    assert by[f"{name}.share"]["value"] == pytest.approx(by["accuracy"]["value"])
    assert by[f"{name}.share"]["low"] < by[f"{name}.share"]["value"] < by[f"{name}.share"]["high"]


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["run", "other.csv"], "other.csv: a file, not a model; to score its rows write --data other.csv"),
        (["data.encoding=utf-8"], "no model is given; write it before the keys: llmkit eval MODEL"),
    ],
)
def test_arguments_that_are_not_models_are_rejected(
    words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("other.csv").touch()
    assert cli.run_command_line(["eval", *words]) == 64
    assert capsys.readouterr().err == f"error: {sentence}\n"
