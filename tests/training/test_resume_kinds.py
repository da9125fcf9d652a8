"""A run of every kind of model that was killed and goes on ends with the very bytes of one that was not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.runs import checkpoint
from llmkit.testing import make_articles, make_reviews, make_tiny_model, write_jsonl
from llmkit.training.trainer import StepTrainer

EACH_STEP = ("train.eval_strategy=steps", "train.eval_steps=3", "train.save_strategy=steps", "train.save_steps=3")
KEYS = ("train.learning_rate=1e-2", "train.per_device_train_batch_size=8", "train.num_train_epochs=2",
        "eval.baselines=[]", *EACH_STEP)  # fmt: skip
RANDOM = "model.config={hidden_dropout_prob: 0.1, attention_probs_dropout_prob: 0.1}"
KINDS: dict[str, tuple[str, dict[str, Any], tuple[str, ...]]] = {
    "lora": ("classify", {"lora": True}, (RANDOM,)),
    "lora-merged": ("classify", {"lora": True}, (RANDOM, "lora.merge=true", "lora.lora_dropout=0.2")),
    "lstm": ("classify", {"model": "lstm"}, ()),
    "thresholds": ("classify", {}, ("classify.kind=multi",)),
    "sentiment": ("sentiment", {}, (RANDOM,)),
    "summarize": ("summarize", {"model": "t5"}, ("summarize.max_target_length=8", "eval.metrics=[rougeL]")),
    "summarize-lora": ("summarize", {"model": "bart", "lora": True}, ("summarize.max_target_length=8",)),
}


class Killed(BaseException):
    """As kill -9, but for the test."""


def written(run: str) -> dict[str, bytes]:
    """The files that the run leaves, but for those that say when."""
    files = [*Path(run, "model").rglob("*"), Path(run, "metrics.json"), Path(run, "predictions.jsonl")]
    return {str(path.relative_to(run)): path.read_bytes() for path in files if path.is_file()}


@pytest.mark.parametrize("kind", KINDS)
def test_resumed_run_is_identical(kind: str, tiny: str) -> None:
    task, words, keys = KINDS[kind]
    rows = make_articles(40) if task == "summarize" else make_reviews(40)
    if "multi" in "".join(keys):
        rows = [row | {"label": [row["label"]]} for row in rows]  # type: ignore[dict-item]
    if (model := words.get("model", tiny)) in ("t5", "bart"):
        make_tiny_model(model, model)
    words = words | {"task": task, "model": model, "train": write_jsonl("rows.jsonl", rows)}
    llmkit.train(None, *KEYS, *keys, **words, output_dir="whole")
    assert killed_in_step(5, *KEYS, *keys, **words, output_dir="killed") == 3
    assert killed_in_step(7, *KEYS, *keys, **words, output_dir="killed") == 6
    llmkit.train(None, *KEYS, *keys, **words, output_dir="killed")
    assert written("killed") == written("whole")
    assert not Path("killed/checkpoints").exists()


def killed_in_step(number: int, *keys: str, **words: Any) -> int:
    """Train until that step; the step up to which the run is committed."""
    step = StepTrainer.training_step

    def killing(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == number:
            raise Killed
        return step(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTrainer, "training_step", killing)
        with pytest.raises(Killed):
            llmkit.train(None, *keys, **words)
    return checkpoint.list_checkpoint_steps(Path(words["output_dir"], "checkpoints"))[0]
