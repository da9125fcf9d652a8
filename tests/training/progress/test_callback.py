"""Tests the progress output of training, line by line, with a fake clock."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from llmkit import console
from llmkit.errors import DiskError
from llmkit.training.progress.callback import ProgressCallback, count_remaining_evaluations, format_step_stats
from llmkit.training.progress.throughput import ThroughputMeter, Totals

Captured = pytest.CaptureFixture[str]


class FakeRun:
    """A ProgressCallback without a Trainer: each step takes 7 s, each evaluation 21 s."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now = 0.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)
        self.meter = ThroughputMeter(lambda: self.now)
        self.callback = ProgressCallback(Path("log.jsonl"), self.meter)
        best_model = {"metric_for_best_model": "accuracy", "greater_is_better": True}
        self.args = TrainingArguments("out", eval_strategy="steps", eval_steps=4, **best_model | options)
        self.state = TrainerState(max_steps=12, eval_steps=4, num_train_epochs=3)
        self.control = TrainerControl()
        self.call("on_train_begin")

    def call(self, name: str, **options: Any) -> None:
        getattr(self.callback, name)(self.args, self.state, self.control, **options)

    def steps(self, number: int, loss: float = 0.5, sent: int = 70_000) -> None:
        for _ in range(number):
            self.now += 7
            self.meter.record_step(rows=32, tokens=70_000, sent=sent, loss=loss)
            self.state.global_step += 1
            self.state.epoch = self.state.global_step / 4
            self.call("on_step_end")

    def evaluate(self, **scores: float) -> None:
        with self.meter.pause():
            self.now += 21
        self.call("on_evaluate", metrics={f"eval_{name}": value for name, value in scores.items()})


def test_full_run_without_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch)
    for loss, accuracy in [(0.7, 0.5), (0.6, 0.75), (0.65, 0.75)]:
        run.steps(4, loss)
        run.evaluate(accuracy=accuracy, macro_f1=accuracy - 0.01)
    run.call("on_train_end")
    run.callback.close()
    assert capsys.readouterr().err.splitlines() == [
        "step 4 (epoch 1.00): loss 0.7000, validation accuracy 0.5000, macro_f1 0.4900 (21 s), best so far",
        # 7 steps of 7 s and two evaluations of 21 s
        "training: 5 of 12  epoch 1.25  loss 0.680  10k tokens/s  1 m 31 s left",
        "step 8 (epoch 2.00): loss 0.6000, validation accuracy 0.7500, macro_f1 0.7400 (21 s), best so far",
        "training: 9 of 12  epoch 2.25  loss 0.650  10k tokens/s  42 s left",
        "step 12 (epoch 3.00): loss 0.6500, validation accuracy 0.7500, macro_f1 0.7400 (21 s)",
        "trained 12 steps in 2 m 27 s (1 m 3 s of it evaluating and saving): 10k tokens/s, no padding",
    ]


def test_one_line_per_evaluation_and_one_at_the_end(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch)
    run.steps(2, sent=80_000)
    run.call("on_train_end")
    assert capsys.readouterr().err == "trained 2 steps in 14 s: 10k tokens/s, 12.5% padding\n"


def test_padding_is_shown_if_not_zero() -> None:
    state = TrainerState(epoch=0.5)
    recent = Totals(steps=2, rows=64, tokens=960, sent=1000, loss=0.0002, seconds=2.0)
    assert format_step_stats(state, recent) == ["epoch 0.50", "loss 1.0e-04", "480 tokens/s", "pad 4%"]
    assert format_step_stats(state, recent._replace(sent=961)) == ["epoch 0.50", "loss 1.0e-04", "480 tokens/s"]


def test_lower_error_is_better_and_undefined_is_never_best(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch, metric_for_best_model="mae", greater_is_better=False)
    for mae in (math.inf, 2.0, 1.0, 1.5):
        run.evaluate(mae=mae, spearman=math.nan)
    assert capsys.readouterr().err.splitlines() == [
        "step 0 (epoch 0.00): validation mae undefined, spearman undefined (21 s)",
        "step 0 (epoch 0.00): validation mae 2.0000, spearman undefined (21 s), best so far",
        "step 0 (epoch 0.00): validation mae 1.0000, spearman undefined (21 s), best so far",
        "step 0 (epoch 0.00): validation mae 1.5000, spearman undefined (21 s)",
    ]


def test_no_best_without_metric_for_best_model(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch, metric_for_best_model=None, greater_is_better=None)
    run.evaluate(accuracy=0.5)
    assert capsys.readouterr().err == "step 0 (epoch 0.00): validation accuracy 0.5000 (21 s)\n"


def test_metric_name_has_no_control_characters(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch)
    run.evaluate(**{"a\x1b[31m\n": 0.5})
    replaced = "\N{REPLACEMENT CHARACTER}"
    assert capsys.readouterr().err == f"step 0 (epoch 0.00): validation a{replaced}[31m{replaced} 0.5000 (21 s)\n"


def test_stopped_run_prints_its_step(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run = FakeRun(monkeypatch)
    run.steps(3)
    run.callback.close()
    run.callback.close()
    assert capsys.readouterr().err == "stopped after step 3 of 12\n"


@pytest.mark.parametrize(
    ("strategy", "step", "epoch", "left"),
    [
        ("no", 1, 0.1, 0),
        ("steps", 1, 0.1, 3), ("steps", 20, 1.0, 3), ("steps", 21, 1.0, 2), ("steps", 45, 2.5, 1),
        ("epoch", 1, 0.1, 3), ("epoch", 15, 1.0, 3), ("epoch", 16, 1.1, 2), ("epoch", 45, 3.0, 1),
    ],
)  # fmt: skip
def test_count_of_remaining_evaluations(strategy: str, step: int, epoch: float, left: int) -> None:
    args = TrainingArguments("out", eval_strategy=strategy, eval_steps=20)
    state = TrainerState(global_step=step, epoch=epoch, max_steps=45, eval_steps=20, num_train_epochs=3)
    assert count_remaining_evaluations(args, state) == left


def test_log_jsonl_is_strict_json_and_full_disk_is_a_disk_error(monkeypatch: pytest.MonkeyPatch) -> None:
    run = FakeRun(monkeypatch)
    run.call("on_log", logs={"loss": 0.5})
    assert Path("log.jsonl").read_text(encoding="utf-8") == '{"step": 0, "loss": 0.5}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        run.call("on_log", logs={"loss": math.nan})
    run.callback.path = Path("nowhere/log.jsonl")
    with pytest.raises(DiskError) as caught:
        run.call("on_log", logs={"loss": 0.5})
    assert str(caught.value) == "nowhere/log.jsonl: No such file or directory; free some space and run again"
    assert json.loads(Path("log.jsonl").read_text(encoding="utf-8"))
