"""Tests full runs with and without the fast path: same weights, and a plain model when it is scored or saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.errors import InternalError
from llmkit.inference.batched import predict_batches
from llmkit.models.fast.padding_free import ATTENTION_NAME
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl
from llmkit.training.checkpoints import state_dict as states
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

KEYS = (
    "model.config={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}", "train.max_steps=10",
    "train.per_device_train_batch_size=8", "eval.baselines=[]",
)  # fmt: skip
SGD = ("train.optim=sgd", "train.learning_rate=0.2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with rows, in which each run is made once."""
    folder = tmp_path_factory.mktemp("fast_path")
    write_jsonl(folder / "reviews.jsonl", make_reviews(60))
    return folder


def train_weights(home: Path, model: str, name: str, *args: str) -> dict[str, torch.Tensor]:
    """Return the weights of a run on the rows of `home`."""
    keys = (*KEYS, *args)
    llmkit.train(None, *keys, task="classify", model=model, train=home / "reviews.jsonl", output_dir=home / name)
    return load_file(home / name / "model/model.safetensors")


def max_difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture(scope="module")
def plain(home: Path, tiny: str) -> dict[str, torch.Tensor]:
    return train_weights(home, tiny, "plain", *SGD, "train.fast_path=off")


def test_fast_path_gives_the_same_weights(
    home: Path, tiny: str, plain: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    fast = train_weights(home, tiny, "short", *SGD)
    message = (
        "fast path: padding-free batches, last layer only at positions that are used (same gradient; "
        "train.fast_path=off disables it)\n"
    )
    assert message in capsys.readouterr().err
    change = max_difference(plain, load_initial_weights(tiny, plain))
    assert change > 1e-2
    assert max_difference(fast, plain) < 1e-5


def load_initial_weights(model: str, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the initial weights of a run of `model`; those of the new head are taken from `like`."""
    start = {f"bert.{name}": one for name, one in load_file(Path(model) / "model.safetensors").items()}
    return like | {name: one for name, one in start.items() if name in like}


@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_workers_do_not_change_the_weights(
    home: Path, tiny: str, plain: dict[str, torch.Tensor], fast_path: str
) -> None:
    keys = (*SGD, "train.dataloader_num_workers=2", f"train.fast_path={fast_path}")
    assert max_difference(train_weights(home, tiny, f"workers-{fast_path}", *keys), plain) < 1e-5


def test_fast_path_with_adam_and_dropout_learns_equally(home: Path, tiny: str) -> None:
    """Adam amplifies the last bits of a zero gradient, so the predictions are compared."""
    fast = ("train.learning_rate=6e-3", "train.max_steps=40", "model.config={}")
    for fast_path in ("auto", "off"):
        train_weights(home, tiny, f"adam-{fast_path}", *fast, f"train.fast_path={fast_path}")
    scores = [json.loads((home / f"adam-{one}/metrics.json").read_text(encoding="utf-8")) for one in ("auto", "off")]
    assert [one["metrics"]["accuracy"]["value"] for one in scores] == [1.0, 1.0]


def find_traces(model: Any) -> list[str]:
    """Return the attributes that the fast path sets on a model while it is installed."""
    traces = [path for path, module in model.named_modules() if path and "forward" in module.__dict__]
    traces += [path for path, module in model.named_modules() if module._forward_hooks]
    return traces + [word for word in [model.config._attn_implementation] if word == ATTENTION_NAME]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_plain_model_is_scored_and_saved(
    home: Path, family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scored, trained, saved = [], [], []

    def predict_and_record(task: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        scored.append(find_traces(model))
        return predict_batches(task, model, *args, **kwargs)

    def step_and_record(self: StepTrainer, model: Any, *args: Any) -> Any:
        trained.append(find_traces(model))
        return step(self, model, *args)

    def save_and_record(model: Any) -> dict[str, torch.Tensor]:
        saved.append(save(model))
        return saved[-1]

    step, save = StepTrainer.training_step, states.select_checkpoint_weights
    monkeypatch.setattr("llmkit.training.trainer.predict_batches", predict_and_record)
    monkeypatch.setattr(StepTrainer, "training_step", step_and_record)
    monkeypatch.setattr("llmkit.training.checkpoints.state_dict.select_checkpoint_weights", save_and_record)
    keys = ("train.max_steps=3", "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps",
            "train.save_steps=1", "train.per_device_train_batch_size=8", "eval.baselines=[]")  # fmt: skip
    model = make_tiny_model(tmp_path / family, family)
    llmkit.train(None, *keys, task="classify", model=model, train=home / "reviews.jsonl", output_dir="run")
    assert scored == [[]] * 3
    assert len(saved) >= len(trained) == 3
    assert all(ATTENTION_NAME in traces and len(traces) >= 3 for traces in trained)
    assert all(traces.keys() == load_file("run/model/model.safetensors").keys() for traces in saved)
    assert ATTENTION_NAME not in Path("run/model/config.json").read_text(encoding="utf-8")


def test_failed_run_leaves_a_plain_model(home: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = []

    def fail(self: StepTrainer, model: Any, *args: Any) -> Any:
        models.append(model)
        assert ATTENTION_NAME in find_traces(model)
        raise InternalError("nothing works", "try again")

    monkeypatch.setattr(StepTrainer, "training_step", fail)
    with pytest.raises(InternalError):
        train_weights(home, tiny, "failed")
    assert find_traces(models[0]) == []


@pytest.mark.parametrize(
    ("key", "reason"),
    [("train.fast_path=off", "train.fast_path=off"), ("train.hf={activation_checkpointing: true}", "not used with gradient checkpointing")],
)  # fmt: skip
def test_reason_without_fast_path_is_printed(
    home: Path, tiny: str, key: str, reason: str, capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    keys = ("train.max_steps=1", "eval.baselines=[]", key)
    llmkit.train(None, *keys, task="classify", model=tiny, train=home / "reviews.jsonl", output_dir="run")
    assert f"fast path: off ({reason}); batches are padded\n" in capsys.readouterr().err


CUSTOM_TASK = '''
"""A loss that reads the padded batch."""
from torch.nn.functional import cross_entropy

from llmkit.tasks.classify import Classify


class Custom(Classify):
    def loss(self, outputs, batch):
        weight = batch["attention_mask"].sum(1) * (batch["input_ids"] > 3).sum(1)
        return (cross_entropy(outputs.logits.float(), batch["labels"], reduction="none") * weight).sum()
'''


def test_custom_loss_gets_the_padded_batch(home: Path, tiny: str) -> None:
    Path("custom.py").write_text(CUSTOM_TASK, encoding="utf-8")
    losses = []
    for fast_path in ("auto", "off"):
        keys = ("train.max_steps=2", "train.logging_steps=1", f"train.fast_path={fast_path}", "eval.baselines=[]",
                "model.config={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}")  # fmt: skip
        run = llmkit.train(
            None, *keys, task="./custom.py", model=tiny, train=home / "reviews.jsonl", output_dir=fast_path
        )
        log = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        losses.append([event["loss"] for event in log if "loss" in event])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_head_that_reads_all_positions_is_detected_even_with_small_logits(tmp_path: Path, scale: float) -> None:
    from llmkit.models.fast.padding_free import try_padding_free
    from llmkit.models.load import load_model
    from llmkit.models.sources.model_ref import resolve_model
    from llmkit.models.tokenizers.encode import encode_texts, pad_features

    folder = make_tiny_model(tmp_path / "mean", "modernbert", classifier_pooling="mean")
    loaded = load_model(resolve_model(folder), "AutoModelForSequenceClassification", {"num_labels": 1})
    with torch.no_grad():
        loaded.model.classifier.weight.mul_(scale)
        loaded.model.classifier.bias.zero_()
    features, _ = encode_texts(loaded.tokenizer, ["a warm and funny film with its story", "dull"], 32)
    padding_free, reason = try_padding_free(loaded.model, pad_features(loaded.tokenizer, features))
    assert padding_free is None
    assert reason == "its logits would differ, or are equal for all texts"
