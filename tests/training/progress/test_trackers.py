"""Tests experiment trackers: the events that they get, their files, and that they never prompt."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerCallback
from transformers.integrations import integration_utils

import llmkit
from llmkit.errors import RecipeError
from llmkit.recipe import report_to
from llmkit.testing import make_reviews, write_jsonl

pytestmark = pytest.mark.slow

QUICK = (
    "train.max_steps=4", "train.logging_steps=2", "train.eval_strategy=steps", "train.eval_steps=4",
    "train.save_strategy=steps", "train.save_steps=4", "eval.baselines=[]",
)  # fmt: skip
TENSORBOARD = "train.hf.report_to=tensorboard"


@pytest.fixture(autouse=True)
def unset_logging_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)


def train(model: str, *keys: str, out: str | None = "run", **flags: Any) -> Any:
    data = write_jsonl("r.jsonl", make_reviews(60))
    return llmkit.train(None, *QUICK, *keys, task="classify", model=model, train=data, output_dir=out, **flags)


def read_scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Read step and value of each tag from the event files of a folder."""
    from tensorboardX.proto.event_pb2 import Event

    scalars: dict[str, list[tuple[int, float]]] = {}
    for path in folder.iterdir():
        raw, offset = path.read_bytes(), 0
        while offset < len(raw):  # length, its checksum, the event, its checksum
            (length,) = struct.unpack("<Q", raw[offset : offset + 8])
            event = Event.FromString(raw[offset + 12 : offset + 12 + length])
            for value in event.summary.value:
                scalars.setdefault(value.tag, []).append((event.step, value.simple_value))
            offset += length + 16
    return scalars


def test_tensorboard_gets_the_events_of_log_jsonl(tiny: str) -> None:
    run = train(tiny, TENSORBOARD)
    logged = read_scalars(run.path / "tensorboard")
    events = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    training = [event for event in events if "loss" in event]
    assert [event["step"] for event in training] == [2, 4]
    for key in ("loss", "grad_norm", "learning_rate", "tokens_per_second", "padding", "tokens_seen"):
        assert logged[f"train/{key}"] == [(event["step"], pytest.approx(event[key])) for event in training]
    (evaluation,) = [event for event in events if "eval_accuracy" in event]
    assert logged["eval/accuracy"] == [(4, pytest.approx(evaluation["eval_accuracy"]))]
    assert logged["eval/macro_f1"] == [(4, pytest.approx(evaluation["eval_macro_f1"]))]
    (end,) = [event for event in events if "train_runtime" in event]
    assert end["train_tokens_seen"] == training[-1]["tokens_seen"] > training[0]["tokens_seen"] > 0
    assert "total_flos" not in end


def test_run_with_event_files_is_sealed(tiny: str) -> None:
    run = train(tiny, TENSORBOARD)
    manifest = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert manifest["sealed"]
    assert not [name for name in manifest["outputs"] if "tensorboard" in name]
    assert llmkit.evaluate(str(run.path), "r.jsonl")


def test_logging_dir_of_the_environment_has_priority(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine").mkdir()
    Path("mine/other").touch()
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", "mine")
    run = train(tiny, TENSORBOARD)
    assert not (run.path / "tensorboard").exists()
    assert Path("mine/other").exists()
    Path("mine/other").unlink()
    assert "train/loss" in read_scalars(Path("mine"))


def test_event_files_contain_no_access_token(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SecretSecretSecret")
    run = train(
        tiny, TENSORBOARD, "train.hf.run_name=https://me:SecretSecret@host/x", "train.hf.project=hf_SecretSecret12"
    )
    written = b"".join(path.read_bytes() for path in (run.path / "tensorboard").iterdir())
    assert b"https://***@host/x" in written
    assert b"SecretSecret" not in written


def test_restarted_run_replaces_event_files_and_resumed_run_keeps_them(
    tiny: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    def leave_unfinished() -> Path:
        with monkeypatch.context() as patch:
            patch.setattr("llmkit.training.run.score_and_write", interrupt)
            with pytest.raises(KeyboardInterrupt):
                train(tiny, TENSORBOARD)
        (file,) = Path("run/tensorboard").iterdir()
        return file.rename(file.with_name("events.out.tfevents.0.old"))

    leave_unfinished()
    shutil.rmtree("run/checkpoints")
    old = leave_unfinished()
    run = train(tiny, TENSORBOARD)
    assert old.exists()
    assert [step for step, _ in read_scalars(run.path / "tensorboard")["train/loss"]] == [2, 4]


def test_missing_tracker_is_reported_before_reading_rows(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "find_spec", lambda name: name == "tensorboardX")
    monkeypatch.setattr("llmkit.training.run.read_splits", None)
    with pytest.raises(RecipeError) as caught:
        train(tiny, "train.hf.report_to=[tensorboard, mlflow, foo]", out="deep/run")
    assert str(caught.value) == (
        "train.hf.report_to: mlflow is not installed; pip install mlflow\n"
        f"error: train.hf.report_to: no tracker 'foo'; known: {', '.join(sorted(report_to.TRACKER_PACKAGES))}"
    )
    assert [path.name for path in Path().iterdir()] == ["r.jsonl"]


def test_failing_tracker_on_resume_leaves_the_run_unchanged(
    tiny: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("llmkit.training.run.score_and_write", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train(tiny)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    Path("notdir").touch()
    capsys.readouterr()
    with monkeypatch.context() as patch:
        patch.setenv("TENSORBOARD_LOGGING_DIR", "notdir/x")
        with pytest.raises(RecipeError) as caught:
            train(tiny, TENSORBOARD, allow_change=["train.hf.report_to"])
    assert str(caught.value) == (
        "train.hf.report_to: tensorboard: NotADirectoryError: [Errno 20] Not a directory: 'notdir/x'; set it up first "
        "(llmkit does not prompt), or leave it out"
    )
    assert "unfinished" not in capsys.readouterr().err
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    train(tiny)
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"]


def test_finished_run_is_found_without_its_tracker(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny, TENSORBOARD)
    monkeypatch.setattr(report_to, "find_spec", lambda _: None)
    assert llmkit.predict("run", ["a film"])[0]["prediction"] in ("bad", "good")


def test_every_tracker_of_transformers_is_in_the_table() -> None:
    assert set(report_to.TRACKER_PACKAGES) == set(integration_utils.INTEGRATION_TO_CALLBACK)


class PromptingTracker(TrainerCallback):
    """A tracker that prompts for a key on the terminal."""

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        input("key: ")


def test_tracker_that_prompts_is_rejected(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "find_spec", lambda name: True)
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "wandb", PromptingTracker)
    stdin = sys.stdin
    with pytest.raises(RecipeError) as caught:
        train(tiny, "train.hf.report_to=[tensorboard,wandb]", out="deep/run")
    assert str(caught.value) == (
        "train.hf.report_to: tensorboard, wandb: EOFError: EOF when reading a line; set it up first (llmkit does not "
        "prompt), or leave it out"
    )
    assert [path.name for path in Path().iterdir()] == ["r.jsonl"]
    assert sys.stdin is stdin
