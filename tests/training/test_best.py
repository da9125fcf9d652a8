"""Tests that a run keeps the weights of its best evaluation for every save interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.testing import make_reviews, write_jsonl
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

PLANNED = [0.1, 0.9, 0.95, 0.2, 0.1, 0.1]  # the third evaluation is the best


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, torch.Tensor]]:
    """Record the weights at each evaluation; the scores are PLANNED."""
    recorded: list[dict[str, torch.Tensor]] = []

    def evaluate(self: StepTrainer, *_: Any, **__: Any) -> dict[str, float]:
        recorded.append({name: weight.detach().clone() for name, weight in self.model.state_dict().items()})
        values = {"eval_accuracy": PLANNED[len(recorded) - 1]}
        self.log(dict(values))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    monkeypatch.setattr(StepTrainer, "evaluate", evaluate)
    return recorded


@pytest.mark.parametrize(
    "keys",
    [
        ("train.num_train_epochs=6",),
        ("train.num_train_epochs=6", "train.save_strategy=best"),
        ("train.max_steps=6", "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps", "train.save_steps=1"),
        ("train.max_steps=6", "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps", "train.save_steps=2"),
        ("train.max_steps=6", "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps", "train.save_steps=6"),
    ],
    ids=["epoch", "best", "every step", "every other step", "at the end"],
)  # fmt: skip
def test_best_weights_are_kept(tiny: str, evaluated: list[dict[str, torch.Tensor]], keys: tuple[str, ...]) -> None:
    run = llmkit.train(
        None, "train.learning_rate=1e-2", "eval.baselines=[]", *keys, task="classify", model=tiny,
        train=write_jsonl("r.jsonl", make_reviews(60)), output_dir="run",
    )  # fmt: skip
    assert len(evaluated) == 6
    weights = load_file(run.path / "model" / "model.safetensors")
    assert all(torch.equal(weight, evaluated[2][name]) for name, weight in weights.items())
    assert not all(torch.equal(weight, evaluated[5][name]) for name, weight in weights.items())
    assert not (run.path / "checkpoints").exists()


def test_without_saving_last_weights_are_kept(tiny: str, evaluated: list[dict[str, torch.Tensor]]) -> None:
    run = llmkit.train(
        None, "train.num_train_epochs=6", "train.save_strategy=no", "eval.baselines=[]", task="classify", model=tiny,
        train=write_jsonl("r.jsonl", make_reviews(60)), output_dir="run",
    )  # fmt: skip
    weights = load_file(Path(run.path) / "model" / "model.safetensors")
    assert all(torch.equal(weight, evaluated[5][name]) for name, weight in weights.items())


def test_run_without_evaluation_prints_a_note(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    llmkit.train(
        None, "train.max_steps=2", "train.hf.eval_delay=50", "eval.baselines=[]", task="classify", model=tiny,
        train=write_jsonl("r.jsonl", make_reviews(60)), output_dir="run",
    )  # fmt: skip
    assert "training ended before its first evaluation: the last weights are kept\n" in capsys.readouterr().err
