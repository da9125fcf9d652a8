"""Tests the dry run: its plan, its coverage of all stages, and that no file is kept."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.cli import run_command_line
from llmkit.errors import DataError, ModelError, OutputError, RecipeError
from llmkit.tasks.summarize import Summarize, SummarizeOptions
from llmkit.testing import make_articles, make_reviews, make_tiny_model, write_jsonl
from llmkit.training.dry_run import count_scored_tokens

pytestmark = pytest.mark.slow


@pytest.fixture
def data() -> str:
    return write_jsonl("reviews.jsonl", make_reviews(60))


def dry_run_classify(tiny: str, data: str, *keys: str) -> Any:
    return llmkit.dry_run(None, *keys, task="classify", model=tiny, train=data)


def test_dry_run_counts_equal_those_of_the_run(tiny: str, data: str) -> None:
    keys = ["train.num_train_epochs=3", "model.max_length=8", "train.per_device_train_batch_size=8"]
    plan = dry_run_classify(tiny, data, *keys)
    run = llmkit.train(None, *keys, task="classify", model=tiny, train=data, output_dir="run")
    log = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    manifest = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert plan.rows == manifest["rows"]
    assert plan.steps == max(event["step"] for event in log) == 3 * math.ceil(plan.rows["train"] / 8)
    assert plan.rows_per_step == 8
    assert plan.truncated > 0
    assert 0 <= plan.padding < 0.5  # a padding-free batch is padded to a multiple of 32 tokens
    assert plan.tokens_per_second > 0
    assert min(plan.seconds.values()) > 0
    assert plan.total_seconds == sum(plan.seconds.values())
    assert plan.memory > 2**20


def test_padding_and_evaluations_are_counted(tiny: str, data: str) -> None:
    padded = dry_run_classify(tiny, data, "train.fast_path=off", "train.max_steps=5", "train.eval_strategy=no")
    assert padded.steps == 5
    assert 0 < padded.padding < 1
    assert padded.seconds["evaluations"] == 0


def test_dry_run_keeps_no_files(tiny: str, data: str) -> None:
    before = sorted(Path().rglob("*"))
    dry_run_classify(tiny, data)
    dry_run_classify(tiny, data, "output_dir=elsewhere/run")
    assert sorted(Path().rglob("*")) == before


def test_dry_run_does_not_change_an_unfinished_run(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import llmkit.training.run

    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(llmkit.training.run, "score_and_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            llmkit.train(None, task="classify", model=tiny, train=data, output_dir="run", epochs=1)
    before = {path: path.stat().st_size for path in sorted(Path("run").rglob("*"))}
    dry_run_classify(tiny, data, "output_dir=run", "train.num_train_epochs=1.0")
    assert {path: path.stat().st_size for path in sorted(Path("run").rglob("*"))} == before


@pytest.mark.parametrize(
    ("keys", "error_type"),
    [
        (["data.columns.text=nothing"], DataError),
        (["model.max_length=1000"], ModelError),
        (["train.hf.adam_beta1=2"], RecipeError),
        (["train.hf.lr_scheduler_kwargs={odd: 1}", "train.lr_scheduler_type=cosine"], RecipeError),
    ],
)
def test_dry_run_raises_the_errors_of_the_run(
    tiny: str, data: str, keys: list[str], error_type: type[Exception]
) -> None:
    with pytest.raises(error_type):
        dry_run_classify(tiny, data, *keys)
    assert [path.name for path in Path().iterdir()] == [data]


def test_dry_run_is_rejected_for_a_finished_run(finished: Path, tiny: str, data: str) -> None:
    with pytest.raises(OutputError):
        dry_run_classify(tiny, data, f"output_dir={finished}")


@pytest.mark.parametrize(
    ("rows", "keys"),
    [
        (
            [{"text": f"{row['text']}", "label": [row["label"], "all"]} for row in make_reviews(40)],
            ["classify.kind=multi"],
        ),
        (
            [{"text": row["text"], "label": i % 7} for i, row in enumerate(make_reviews(40))],
            ["classify.kind=regression"],
        ),
    ],
)
def test_dry_run_of_every_type_of_prediction(tiny: str, rows: list[dict[str, Any]], keys: list[str]) -> None:
    plan = dry_run_classify(tiny, write_jsonl("rows.jsonl", rows), *keys)
    assert plan.seconds["evaluations"] > 0


@pytest.mark.parametrize("keys", [[], ["summarize.long_inputs=chunk", "model.max_length=8"]])
def test_prediction_time_grows_with_max_target_length(own_folder: Any, keys: list[str]) -> None:
    rows = write_jsonl("rows.jsonl", make_articles(60))
    common = ["train.max_steps=1", "eval.metrics=[rougeL]", "summarize.max_target_length=8", *keys]
    plan = llmkit.dry_run(None, *common, task="summarize", model=make_tiny_model("m", "t5"), train=rows)
    limited = llmkit.dry_run(None, *common, "eval.max_validation_rows=1", task="summarize", model="m", train=rows)
    assert plan.rows == limited.rows == {"train": 48, "validation": 6, "test": 6}
    assert plan.seconds["evaluations"] > 0
    assert limited.seconds["evaluations"] < limited.seconds["final scores"]
    features = [{"input_ids": [1] * length} for length in (3, 9)]
    assert count_scored_tokens(Summarize(SummarizeOptions(max_target_length=5)), features, 2) == 2 * 16 + 2 * 5
    assert count_scored_tokens(Summarize(SummarizeOptions(max_target_length=5)), features, 1) == 16 + 8 + 2 * 5


def test_dry_run_without_validation_and_test_rows(tiny: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    plan = dry_run_classify(tiny, data, "data.split.validation=0", "data.split.test=0")
    lines = capsys.readouterr().err.splitlines()
    assert "no validation rows: the last weights are kept" in lines
    assert len(set(lines)) == len(lines)
    assert plan.rows == {"train": 60}
    assert plan.seconds["final scores"] == 0


def test_command_prints_the_plan(tiny: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["finetune-classify", "--train", data, "--model", tiny, "--dry-run"]) == 0
    lines = capsys.readouterr().out.splitlines()
    first_words = ["rows", "steps", "truncated", "padding", "precision", "time", "rate", "memory", "disk", "Nothing"]
    assert [line.split()[0] for line in lines] == first_words
    assert lines[0] == "rows       train 48, validation 6, test 6"
    assert lines[-1] == "Nothing was kept. The same command without --dry-run runs it."


def test_json_output_is_a_single_object(tiny: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run_command_line(["train", "task=classify", f"data.train={data}", f"model.name={tiny}", "--dry-run", "--json"])
        == 0
    )
    plan = json.loads(capsys.readouterr().out)
    assert plan["steps"] == 6
    assert plan["total_seconds"] == pytest.approx(sum(plan["seconds"].values()))
