"""A run that was killed and started again ends with the very bytes of one that was not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.errors import DiskError, OutputError
from llmkit.runs import commit
from llmkit.runs.manifest import file_hash
from llmkit.testing import reviews, sentences, write_jsonl, write_lines
from llmkit.training import lasting
from llmkit.training.trainer import StepTrainer

TIMES = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second",
         "train_tokens_per_second", "checkpoint_seconds", "checkpoint_bytes"}  # fmt: skip
EACH_STEP = ("train.eval_strategy=steps", "train.eval_steps=2", "train.save_strategy=steps", "train.save_steps=2")
KEYS = ("train.learning_rate=1e-2", "train.per_device_train_batch_size=8", "train.logging_steps=1", "eval.baselines=[]")


class Killed(BaseException):
    """As kill -9, but for the test: nothing in llmkit catches it."""


def classify(model: str, *keys: str, out: str, **words: Any) -> Any:
    data = write_jsonl("r.jsonl", reviews(40))
    return llmkit.train(None, *KEYS, *keys, task="classify", model=model, train=data, output_dir=out, **words)


def mlm(model: str, *keys: str, out: str) -> Any:
    data = write_lines("c.txt", sentences(60))
    lengths = ("model.max_length=32", "train.per_device_train_batch_size=4")
    return llmkit.train(None, KEYS[0], *KEYS[2:], *lengths, *keys, task="mlm", model=model, train=data, output_dir=out)


def result(run: str) -> tuple[str, str, list[dict[str, Any]]]:
    """The bytes of the weights, the scores, and the log but for times."""
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return file_hash(Path(run, "model/model.safetensors")), Path(run, "metrics.json").read_text(encoding="utf-8"), log


def kill_in_step(patch: pytest.MonkeyPatch, number: int) -> None:
    step = StepTrainer.training_step

    def killing(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == number:
            raise Killed
        return step(self, *args)

    patch.setattr(StepTrainer, "training_step", killing)


def interrupted(train: Any, keys: Sequence[str], kills: Sequence[int], model: str) -> None:
    """A run that is killed in each of those steps in turn, and then left alone."""
    for number in kills:
        with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
            kill_in_step(patch, number)
            train(model, *keys, out="killed")
    train(model, *keys, out="killed")


@pytest.mark.parametrize(
    ("keys", "kills"),
    [
        ((), [6, 7, 8]),  # at an epoch's end: five steps each, the last of them short
        (EACH_STEP, [4, 9]),
        ((*EACH_STEP, "train.precision=bf16"), [8]),
        ((*EACH_STEP, "train.shortcuts=off"), [8]),
        ((*EACH_STEP, "train.max_steps=7", "eval.early_stopping_patience=3"), [5, 7]),
        ((*EACH_STEP, "train.dataloader_num_workers=1", "train.hf.dataloader_persistent_workers=true"), [7]),
        (("train.save_strategy=steps", "train.save_steps=3", "train.eval_strategy=no", "train.optim=adafactor"), [8]),
    ],
    ids=["epoch", "steps", "bf16", "plain", "patience", "workers", "adafactor"],
)
def test_a_classifier_is_the_same_to_the_bit(tiny: str, keys: tuple[str, ...], kills: list[int]) -> None:
    classify(tiny, *keys, out="whole")
    interrupted(classify, keys, kills, tiny)
    assert result("killed") == result("whole")
    assert not Path("killed/checkpoints").exists()


@pytest.mark.parametrize(
    "keys",
    [("train.max_steps=10",), ("train.max_steps=10", "train.precision=bf16", "train.shortcuts=off"),
     ("train.max_steps=40", "data.streaming=true", "data.split.validation=0.3")],
    ids=["rows", "bf16", "stream"],
)  # fmt: skip
def test_a_masked_model_is_the_same_to_the_bit(tiny_mlm: str, keys: tuple[str, ...]) -> None:
    saving = ("train.eval_strategy=no", "train.save_strategy=steps", "train.save_steps=2")
    mlm(tiny_mlm, *keys, *saving, out="whole")
    kills = [4, 9] if "train.max_steps=10" in keys else [4, 29, 40]
    interrupted(mlm, (*keys, *saving), kills, tiny_mlm)
    assert result("killed") == result("whole")
