"""`eval` repeats a run's scores, scores other rows, and rejects unknown labels and missing files."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import llmkit
from llmkit import cli
from llmkit.errors import DataError, MissingInputError, NetworkError, OutputError, UsageError
from llmkit.runs import manifest
from llmkit.testing import make_reviews, write_jsonl


def read_metrics(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def home(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the folder of the run, where its recipe finds reviews.jsonl; return the run."""
    monkeypatch.chdir(finished.parent)
    return finished


def test_evaluating_a_run_repeats_its_test_scores(home: Path) -> None:
    assert llmkit.evaluate(str(home)) == read_metrics(home)


def test_batch_size_changes_no_score(home: Path) -> None:
    assert llmkit.evaluate(str(home), batch_size=1) == read_metrics(home)


def test_other_rows_are_scored_with_baselines_of_the_run(home: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", make_reviews(40, seed=8))
    report = llmkit.evaluate(str(home), other, metrics=["mcc", "accuracy"], output_dir=str(tmp_path / "scored"))
    assert (report["split"], report["n"]) == (other, 40)
    assert list(report["metrics"]) == ["mcc", "accuracy"]
    assert report["metrics"]["accuracy"]["value"] >= 0.8
    assert report["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert read_metrics(tmp_path / "scored") == report
    assert len((tmp_path / "scored/predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 40


@pytest.mark.slow
def test_training_rows_are_reported_and_give_no_verdict(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [json.loads(line) for line in Path("reviews.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{"label": row["label"], "words": row["text"].upper()} for row in [*known, *make_reviews(10, seed=99)]]
    data = write_jsonl(tmp_path / "known.jsonl", rows)
    assert cli.run_command_line(["eval", str(home), "--data", data, "--text", "words"]) == 0
    captured = capsys.readouterr()
    trained = json.loads((home / "run.json").read_text(encoding="utf-8"))["rows"]["train"]
    assert (
        f"known.jsonl: {trained} of {len(rows)} rows ({100 * trained / len(rows):.1f} %) are also in train"
        in captured.err
    )
    assert "; the model and its baselines were trained on them, so the scores are inflated" in captured.err
    assert "does not beat" not in captured.out
    assert llmkit.evaluate(str(home), data, text="words")["learned"] == trained


def test_labels_are_mapped_by_name_in_any_order_and_column(finished: Path) -> None:
    rows = [{"verdict": row["label"], "words": row["text"]} for row in make_reviews(20, seed=8)[::-1]]
    report = llmkit.evaluate(str(finished), write_jsonl("o.jsonl", rows), text="words", label="verdict")
    assert report["metrics"]["accuracy"]["value"] >= 0.8


def test_a_changed_training_file_is_an_error_only_if_needed(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(finished, "run")
    write_jsonl("reviews.jsonl", make_reviews(60, seed=77))
    with pytest.raises(DataError) as error:
        llmkit.evaluate("run")
    assert str(error.value) == "reviews.jsonl: not the file that run was trained on; name the rows with --data"
    report = llmkit.evaluate("run", write_jsonl("o.jsonl", make_reviews(20, seed=8)))
    assert report["baselines"] == {}
    assert "no baselines: reviews.jsonl: not the file that run was trained on\n" in capsys.readouterr().err


def test_an_unreadable_file_is_reported_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reviews.jsonl").write_text("{\n")
    assert cli.run_command_line(["eval", str(finished), "--data", "reviews.jsonl"]) == 65
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: reviews.jsonl:1:")


def test_a_plain_folder_needs_rows(finished: Path) -> None:
    with pytest.raises(UsageError) as error:
        llmkit.evaluate(str(finished / "model"))
    assert (
        str(error.value)
        == f"{finished / 'model'}: not a run, so it has no rows of its own; name the rows with --data FILE"
    )


def test_unknown_metrics_and_used_folders_are_rejected_before_loading(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.models.load.load_model", None)
    with pytest.raises(UsageError) as error:
        llmkit.evaluate(str(home), metrics=["acuracy"])
    assert str(error.value) == "--metric acuracy: unknown; did you mean 'accuracy'?"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(OutputError):
        llmkit.evaluate(str(home), output_dir=str(tmp_path / "taken"))
    monkeypatch.undo()
    monkeypatch.chdir(home.parent)
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    llmkit.evaluate(str(home))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


MINE = """import datasets
import evaluate


class Mine(evaluate.Metric):
    def _info(self):
        one = datasets.Value("string")
        features = datasets.Features({"predictions": one, "references": one})
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        return {"mine": sum(a == b for a, b in zip(predictions, references)) / len(references)}
"""


@pytest.mark.slow
def test_evaluate_metrics_are_reported_with_the_tasks_own(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    name = f"evaluate:{tmp_path / 'mine.py'}"
    report = llmkit.evaluate(str(home), metrics=["accuracy", name])
    assert list(report["metrics"]) == ["accuracy", name]
    assert report["metrics"][name]["value"] == report["metrics"]["accuracy"]["value"]
    assert report["baselines"]["majority"][name]["value"] == report["baselines"]["majority"]["accuracy"]["value"]


def test_a_missing_metric_script_is_reported_first() -> None:
    with pytest.raises(MissingInputError) as error:
        llmkit.evaluate("no/such/run", metrics=["evaluate:./none"])
    assert str(error.value) == (
        "evaluate:./none: no metric script 'none/none.py'; use a .py file, or a folder that contains a .py file of the same name"
    )


def test_an_unknown_hub_metric_is_reported_before_loading(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.models.load.load_model", None)
    with pytest.raises(NetworkError) as error:
        llmkit.evaluate(str(home), metrics=["evaluate:accuracy"])
    assert str(error.value) == (
        "evaluate:accuracy: the Hub has no such metric (HF_HUB_OFFLINE is set); "
        "a local copy of its folder works offline: evaluate:./accuracy"
    )


def test_code_named_in_a_runs_recipe_is_not_executed(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(home, tmp_path / "run"))
    recipe, manifest_file = run / "recipe.yaml", run / "run.json"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("  metrics: []\n", "  metrics: [mcc, 'evaluate:./evil']\n"), encoding="utf-8")
    known = json.loads(manifest_file.read_text(encoding="utf-8"))
    known["outputs"]["recipe.yaml"] = manifest.hash_file(recipe)
    manifest_file.write_text(json.dumps(known), encoding="utf-8")
    assert list(llmkit.evaluate(str(run))["metrics"]) == ["mcc"]
    assert (
        "left out: evaluate:./evil, code that is only named in the run's recipe; --metric evaluate:./evil runs it\n"
        in capsys.readouterr().err
    )


def test_scores_per_label_are_reported_on_request(home: Path, tmp_path: Path) -> None:
    rows = [row | {"label": "good"} if i < 2 else row for i, row in enumerate(make_reviews(20, seed=8))]
    report = llmkit.evaluate(str(home), write_jsonl(tmp_path / "o.jsonl", rows), per_label=True)
    assert list(report["per_label"]) == ["bad", "good"]
    assert report["per_label"]["bad"]["support"] == 9
    assert report["per_label"]["bad"]["recall"].keys() == {"value", "low", "high", "signature"}
    wrong = round(20 * (1 - report["metrics"]["accuracy"]["value"]))
    assert sum(pair["rows"] for pair in report["confusions"]) == wrong
    assert report["confusions"][0].keys() == {"reference", "prediction", "rows"}
    assert {"per_label", "confusions", "label_map"}.isdisjoint(llmkit.evaluate(str(home)))


@pytest.mark.slow
def test_a_recipe_can_request_scores_per_label(tiny: str) -> None:
    data = write_jsonl("r.jsonl", make_reviews(20))
    run = llmkit.train(None, "eval.per_label=true", "train.max_steps=1", "train.eval_strategy=no",
                       task="classify", model=tiny, train=data, output_dir="run")  # fmt: skip
    assert list(read_metrics(run.path)["per_label"]) == ["bad", "good"]
    assert llmkit.evaluate("run") == read_metrics(run.path)


def test_a_metric_that_exits_ends_the_command_with_an_error(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace("        return {", "        raise SystemExit(0)\n        return {"))
    name = f"evaluate:{tmp_path / 'mine.py'}"
    assert cli.run_command_line(["eval", str(home), "--metric", name]) == 65
    captured = capsys.readouterr()
    assert captured.err.endswith(f"error: {name}: SystemExit: 0; fix the metric, or leave it out\n")
    assert captured.out == ""
