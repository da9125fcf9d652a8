"""`eval` says what the run said, on its own rows or on others, and refuses labels that the model does not know."""

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


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text(encoding="utf-8"))


@pytest.fixture
def home(finished: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the run was made: its recipe names reviews.jsonl there."""
    monkeypatch.chdir(finished.parent)
    return finished


def test_a_run_is_scored_on_its_own_test_rows_as_it_was(home: Path) -> None:
    assert llmkit.evaluate(str(home)) == metrics_of(home)


def test_batch_size_changes_no_score(home: Path) -> None:
    assert llmkit.evaluate(str(home), batch_size=1) == metrics_of(home)


def test_other_rows_are_scored_beside_baselines_from_the_runs_training_rows(home: Path, tmp_path: Path) -> None:
    other = write_jsonl(tmp_path / "other.jsonl", make_reviews(40, seed=8))
    report = llmkit.evaluate(str(home), other, metrics=["mcc", "accuracy"], output_dir=str(tmp_path / "scored"))
    assert (report["split"], report["n"]) == (other, 40)
    assert list(report["metrics"]) == ["mcc", "accuracy"]
    assert report["metrics"]["accuracy"]["value"] >= 0.8
    assert report["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert metrics_of(tmp_path / "scored") == report
    assert len((tmp_path / "scored/predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 40


def test_rows_that_the_model_was_trained_on_are_said_and_give_no_verdict(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [json.loads(line) for line in Path("reviews.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [{"label": row["label"], "words": row["text"].upper()} for row in [*known, *make_reviews(10, seed=99)]]
    data = write_jsonl(tmp_path / "known.jsonl", rows)
    assert cli.run_command_line(["eval", str(home), "--data", data, "--text", "words"]) == 0
    said = capsys.readouterr()
    trained = json.loads((home / "run.json").read_text(encoding="utf-8"))["rows"]["train"]
    assert (
        f"known.jsonl: {trained} of {len(rows)} rows ({100 * trained / len(rows):.1f} %) are also in train" in said.err
    )
    assert "; the model and its baselines have learned them, so this is no test" in said.err
    assert "does not beat" not in said.out
    assert llmkit.evaluate(str(home), data, text="words")["learned"] == trained


def test_labels_are_mapped_by_name_whatever_their_order_and_column(finished: Path) -> None:
    rows = [{"verdict": row["label"], "words": row["text"]} for row in make_reviews(20, seed=8)[::-1]]
    report = llmkit.evaluate(str(finished), write_jsonl("o.jsonl", rows), text="words", label="verdict")
    assert report["metrics"]["accuracy"]["value"] >= 0.8


def test_a_changed_training_file_is_said_and_refused_only_where_it_is_needed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, "run")
    write_jsonl("reviews.jsonl", make_reviews(60, seed=77))
    with pytest.raises(DataError) as fault:
        llmkit.evaluate("run")
    assert str(fault.value) == "reviews.jsonl: not the file that run was trained on; name the rows with --data"
    report = llmkit.evaluate("run", write_jsonl("o.jsonl", make_reviews(20, seed=8)))
    assert report["baselines"] == {}
    assert "no baselines: reviews.jsonl: not the file that run was trained on\n" in capsys.readouterr().err


def test_a_file_that_cannot_be_read_is_said_once(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("reviews.jsonl").write_text("{\n")
    assert cli.run_command_line(["eval", str(finished), "--data", "reviews.jsonl"]) == 65
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: reviews.jsonl:1:")


def test_a_plain_folder_needs_rows(finished: Path) -> None:
    with pytest.raises(UsageError) as fault:
        llmkit.evaluate(str(finished / "model"))
    assert (
        str(fault.value)
        == f"{finished / 'model'}: no run, so it has no rows of its own; name the rows with --data FILE"
    )


def test_an_unknown_metric_and_a_taken_folder_are_refused_before_the_weights_load(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.models.load.load_model", None)
    with pytest.raises(UsageError) as fault:
        llmkit.evaluate(str(home), metrics=["acuracy"])
    assert str(fault.value) == "--metric acuracy: unknown; did you mean 'accuracy'?"
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


def test_a_metric_of_the_evaluate_library_stands_beside_the_tasks_own(home: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MINE)
    name = f"evaluate:{tmp_path / 'mine.py'}"
    report = llmkit.evaluate(str(home), metrics=["accuracy", name])
    assert list(report["metrics"]) == ["accuracy", name]
    assert report["metrics"][name]["value"] == report["metrics"]["accuracy"]["value"]
    assert report["baselines"]["majority"][name]["value"] == report["baselines"]["majority"]["accuracy"]["value"]


def test_a_missing_metric_script_is_said_before_anything_else() -> None:
    with pytest.raises(MissingInputError) as fault:
        llmkit.evaluate("no/such/run", metrics=["evaluate:./none"])
    assert str(fault.value) == (
        "evaluate:./none: no metric script 'none/none.py'; name a .py file, or a folder with one of its name"
    )


def test_a_metric_that_the_hub_does_not_give_is_said_before_the_weights_load(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.models.load.load_model", None)
    with pytest.raises(NetworkError) as fault:
        llmkit.evaluate(str(home), metrics=["evaluate:accuracy"])
    assert str(fault.value) == (
        "evaluate:accuracy: the Hub gave no such metric (HF_HUB_OFFLINE is set); "
        "a copy of its folder here works offline: evaluate:./accuracy"
    )


def test_a_run_names_no_code_that_runs(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Path(shutil.copytree(home, tmp_path / "run"))
    recipe, about = run / "recipe.yaml", run / "run.json"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("  metrics: []\n", "  metrics: [mcc, 'evaluate:./evil']\n"), encoding="utf-8")
    known = json.loads(about.read_text(encoding="utf-8"))
    known["outputs"]["recipe.yaml"] = manifest.hash_file(recipe)
    about.write_text(json.dumps(known), encoding="utf-8")
    assert list(llmkit.evaluate(str(run))["metrics"]) == ["mcc"]
    assert (
        "left out: evaluate:./evil, code that only the run's recipe names; --metric evaluate:./evil runs it\n"
        in capsys.readouterr().err
    )


def test_the_scores_of_each_label_are_said_where_asked_for(home: Path, tmp_path: Path) -> None:
    rows = [row | {"label": "good"} if i < 2 else row for i, row in enumerate(make_reviews(20, seed=8))]
    report = llmkit.evaluate(str(home), write_jsonl(tmp_path / "o.jsonl", rows), per_label=True)
    assert list(report["per_label"]) == ["bad", "good"]
    assert report["per_label"]["bad"]["support"] == 9
    assert report["per_label"]["bad"]["recall"].keys() == {"value", "low", "high", "signature"}
    wrong = round(20 * (1 - report["metrics"]["accuracy"]["value"]))
    assert sum(pair["rows"] for pair in report["confusions"]) == wrong
    assert report["confusions"][0].keys() == {"reference", "answer", "rows"}
    assert {"per_label", "confusions", "label_map"}.isdisjoint(llmkit.evaluate(str(home)))


def test_a_recipe_can_ask_for_the_scores_of_each_label(tiny: str) -> None:
    data = write_jsonl("r.jsonl", make_reviews(20))
    run = llmkit.train(None, "eval.per_label=true", "train.max_steps=1", "train.eval_strategy=no",
                       task="classify", model=tiny, train=data, output_dir="run")  # fmt: skip
    assert list(metrics_of(run.path)["per_label"]) == ["bad", "good"]
    assert llmkit.evaluate("run") == metrics_of(run.path)


def test_a_metric_that_leaves_ends_the_command_with_a_sentence(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.py").write_text(MINE.replace("        return {", "        raise SystemExit(0)\n        return {"))
    name = f"evaluate:{tmp_path / 'mine.py'}"
    assert cli.run_command_line(["eval", str(home), "--metric", name]) == 65
    said = capsys.readouterr()
    assert said.err.endswith(f"error: {name}: SystemExit: 0; mend the metric, or leave it out\n")
    assert said.out == ""
