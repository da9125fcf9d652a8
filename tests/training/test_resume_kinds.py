"""Tests for every type of model that a killed and resumed run ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.runs import checkpoint
from llmkit.testing import make_articles, make_reviews, make_tiny_model, write_jsonl
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

EACH_STEP = ("train.eval_strategy=steps", "train.eval_steps=3", "train.save_strategy=steps", "train.save_steps=3")
KEYS = ("train.learning_rate=1e-2", "train.per_device_train_batch_size=8", "train.num_train_epochs=2",
        "eval.baselines=[]", *EACH_STEP)  # fmt: skip
DROPOUT = "model.config={hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}"
MODEL_TYPES: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "lora": ("classify", {"lora": True}, (DROPOUT,)),
    "lora-merged": ("classify", {"lora": True}, (DROPOUT, "lora.merge=true", "lora.lora_dropout=0.2")),
    "lstm": ("classify", {"model": "lstm"}, ()),
    "thresholds": ("classify", {}, ("classify.kind=multi",)),
    "sentiment": ("sentiment", {}, (DROPOUT,)),
    "summarize": ("summarize", {"model": "t5"}, ("summarize.max_target_length=8", "eval.metrics=[rougeL]")),
    "summarize-lora": ("summarize", {"model": "bart", "lora": True}, ("summarize.max_target_length=8",)),
}


class Killed(BaseException):
    """Simulates kill -9 within the test process."""


def read_outputs(run: str) -> dict[str, bytes]:
    """Return the files of the run, except those that contain times."""
    files = [*Path(run, "model").rglob("*"), Path(run, "metrics.json"), Path(run, "predictions.jsonl")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_resumed_run_is_identical(model_type: str, tiny: str) -> None:
    task, flags, keys = MODEL_TYPES[model_type]
    rows = make_articles(40) if task == "summarize" else make_reviews(40)
    if "multi" in "".join(keys):
        rows = [row | {"label": [row["label"]]} for row in rows]  # type: ignore[dict-item]
    if (model := flags.get("model", tiny)) in ("t5", "bart"):
        make_tiny_model(model, model)
    flags = flags | {"task": task, "model": model, "train": write_jsonl("rows.jsonl", rows)}
    llmkit.train(None, *KEYS, *keys, **flags, output_dir="reference")
    assert kill_in_step(5, *KEYS, *keys, **flags, output_dir="killed") == 3
    assert kill_in_step(7, *KEYS, *keys, **flags, output_dir="killed") == 6
    llmkit.train(None, *KEYS, *keys, **flags, output_dir="killed")
    assert read_outputs("killed") == read_outputs("reference")
    assert not Path("killed/checkpoints").exists()


def kill_in_step(number: int, *keys: str, **flags: Any) -> int:
    """Train until that step and return the step of the last checkpoint."""
    step = StepTrainer.training_step

    def step_or_kill(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == number:
            raise Killed
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", step_or_kill)
        with pytest.raises(Killed):
            llmkit.train(None, *keys, **flags)
    return checkpoint.list_checkpoint_steps(Path(flags["output_dir"], "checkpoints"))[0]
