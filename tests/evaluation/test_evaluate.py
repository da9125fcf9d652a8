"""`eval` says what the run said, on its own rows or on others, and refuses labels that the model does not know."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import llmkit
from llmkit.errors import DataError, OutputError, UsageError
from llmkit.evaluation import baselines
from llmkit.testing import reviews, tiny_model, write_jsonl


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
    other = write_jsonl(tmp_path / "other.jsonl", reviews(40, seed=8))
    report = llmkit.evaluate(str(home), other, metrics=["mcc", "accuracy"], output_dir=str(tmp_path / "scored"))
    assert (report["split"], report["n"]) == (other, 40)
    assert list(report["metrics"]) == ["mcc", "accuracy"]
    assert report["metrics"]["accuracy"]["value"] >= 0.8
    assert report["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert metrics_of(tmp_path / "scored") == report
    assert len((tmp_path / "scored/predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 40


def test_labels_are_mapped_by_name_whatever_their_order_and_column(finished: Path) -> None:
    rows = [{"verdict": row["label"], "words": row["text"]} for row in reviews(20, seed=8)[::-1]]
    report = llmkit.evaluate(str(finished), write_jsonl("o.jsonl", rows), text="words", label="verdict")
    assert report["metrics"]["accuracy"]["value"] >= 0.8


def test_labels_that_the_model_does_not_know_are_refused_and_counted(finished: Path) -> None:
    rows = [row | {"label": {"bad": "neg", "good": "pos"}[row["label"]]} for row in reviews(6)]
    with pytest.raises(DataError) as fault:
        llmkit.evaluate(str(finished), write_jsonl("o.jsonl", rows))
    assert str(fault.value) == (
        "o.jsonl:1: label 'neg' of column 'label' is none of the model's (bad, good); "
        "name the column that holds the labels with --label, or mend them\n"
        "  o.jsonl:1: 'neg'\n  o.jsonl:2: 'pos'\n  o.jsonl:3: 'neg'\n  o.jsonl:4: 'pos'\n  o.jsonl:5: 'neg'\n  ... and 1 more"
    )


def test_a_changed_training_file_is_said_and_refused_only_where_it_is_needed(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished, "run")
    write_jsonl("reviews.jsonl", reviews(60, seed=77))
    with pytest.raises(DataError) as fault:
        llmkit.evaluate("run")
    assert str(fault.value) == "reviews.jsonl: not the file that run was trained on; name the rows with --data"
    report = llmkit.evaluate("run", write_jsonl("o.jsonl", reviews(20, seed=8)))
    assert report["baselines"] == {}
    assert "no baselines: reviews.jsonl: not the file that run was trained on\n" in capsys.readouterr().err


def test_a_plain_folder_needs_rows(finished: Path) -> None:
    with pytest.raises(UsageError) as fault:
        llmkit.evaluate(str(finished / "model"))
    assert (
        str(fault.value)
        == f"{finished / 'model'}: no run, so it has no rows of its own; name the rows with --data FILE"
    )


def test_a_foreign_model_with_numbered_labels_is_refused_by_name() -> None:
    foreign = tiny_model("foreign", auto_class="AutoModelForSequenceClassification", num_labels=2)
    with pytest.raises(DataError) as fault:
        llmkit.evaluate(foreign, write_jsonl("o.jsonl", reviews(2)))
    assert str(fault.value).startswith(
        "o.jsonl:1: label 'bad' of column 'label' is none of the model's (LABEL_0, LABEL_1); "
    )


def test_an_unknown_metric_and_a_taken_folder_are_refused_before_the_work(home: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as fault:
        llmkit.evaluate(str(home), metrics=["acuracy"])
    assert str(fault.value) == "--metric acuracy: unknown; did you mean 'accuracy'?"
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/file").touch()
    with pytest.raises(OutputError):
        llmkit.evaluate(str(home), output_dir=str(tmp_path / "taken"))
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    llmkit.evaluate(str(home))
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("texts", "without_spaces"),
    [(["我喜欢看电影。", "我不喜欢听音乐！"], True), (["カタカナとひらがな"], True), (["a plain text 我"], False), (["한국어 문장"], False),
     (["Привет мир"], False), (["ภาษาไทย"], True), (["12 34"], False)],
)  # fmt: skip
def test_scripts_without_spaces_are_cut_into_characters(texts: list[str], without_spaces: bool) -> None:
    assert baselines.unspaced(texts) is without_spaces
