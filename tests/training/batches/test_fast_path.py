"""Whole runs with and without shortcuts: the same weights, and nothing of them in what is judged or saved."""

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

KEYS = (
    "model.config={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}", "train.max_steps=10",
    "train.per_device_train_batch_size=8", "eval.baselines=[]",
)  # fmt: skip
SGD = ("train.optim=sgd", "train.learning_rate=0.2")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows in it, where runs are made once."""
    folder = tmp_path_factory.mktemp("shortcuts")
    write_jsonl(folder / "reviews.jsonl", make_reviews(60))
    return folder


def trained(home: Path, model: str, name: str, *more: str) -> dict[str, torch.Tensor]:
    """The weights of a run on the rows of `home`."""
    keys = (*KEYS, *more)
    llmkit.train(None, *keys, task="classify", model=model, train=home / "reviews.jsonl", output_dir=home / name)
    return load_file(home / name / "model/model.safetensors")


def furthest(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)


@pytest.fixture(scope="module")
def plain(home: Path, tiny: str) -> dict[str, torch.Tensor]:
    return trained(home, tiny, "plain", *SGD, "train.fast_path=off")


def test_a_run_with_shortcuts_ends_with_the_same_weights(
    home: Path, tiny: str, plain: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    short = trained(home, tiny, "short", *SGD)
    said = (
        "shortcuts: texts without padding, the last layer only where it is read (same gradient; train.fast_path=off)\n"
    )
    assert said in capsys.readouterr().err
    moved = furthest(plain, load_start(tiny, plain))
    assert moved > 1e-2
    assert furthest(short, plain) < 1e-5


def load_start(model: str, like: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The weights that a run of `model` starts from; those of the fresh head as they ended."""
    start = {f"bert.{name}": one for name, one in load_file(Path(model) / "model.safetensors").items()}
    return like | {name: one for name, one in start.items() if name in like}


@pytest.mark.parametrize("shortcuts", ["auto", "off"])
def test_workers_change_nothing(home: Path, tiny: str, plain: dict[str, torch.Tensor], shortcuts: str) -> None:
    keys = (*SGD, "train.dataloader_num_workers=2", f"train.fast_path={shortcuts}")
    assert furthest(trained(home, tiny, f"workers-{shortcuts}", *keys), plain) < 1e-5


def test_adam_and_dropout_learn_alike(home: Path, tiny: str) -> None:
    """Adam magnifies the last bits of a gradient that is zero; what is learned is judged by its answers."""
    fast = ("train.learning_rate=6e-3", "train.max_steps=40", "model.config={}")
    for shortcuts in ("auto", "off"):
        trained(home, tiny, f"adam-{shortcuts}", *fast, f"train.fast_path={shortcuts}")
    scores = [json.loads((home / f"adam-{one}/metrics.json").read_text(encoding="utf-8")) for one in ("auto", "off")]
    assert [one["metrics"]["accuracy"]["value"] for one in scores] == [1.0, 1.0]


def traces(model: Any) -> list[str]:
    """What a shortcut leaves on a model while it is installed."""
    found = [path for path, module in model.named_modules() if path and "forward" in module.__dict__]
    found += [path for path, module in model.named_modules() if module._forward_hooks]
    return found + [word for word in [model.config._attn_implementation] if word == ATTENTION_NAME]


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_what_is_judged_and_saved_is_the_plain_model(
    home: Path, family: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    judged, learning, saved = [], [], []

    def judging(task: Any, model: Any, *more: Any, **words: Any) -> Any:
        judged.append(traces(model))
        return predict_batches(task, model, *more, **words)

    def stepping(self: StepTrainer, model: Any, *more: Any) -> Any:
        learning.append(traces(model))
        return step(self, model, *more)

    def saving(model: Any) -> dict[str, torch.Tensor]:
        saved.append(save(model))
        return saved[-1]

    step, save = StepTrainer.training_step, states.select_checkpoint_weights
    monkeypatch.setattr("llmkit.training.trainer.answer", judging)
    monkeypatch.setattr(StepTrainer, "training_step", stepping)
    monkeypatch.setattr("llmkit.training.checkpoints.state_dict.kept", saving)
    keys = ("train.max_steps=3", "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps",
            "train.save_steps=1", "train.per_device_train_batch_size=8", "eval.baselines=[]")  # fmt: skip
    model = make_tiny_model(tmp_path / family, family)
    llmkit.train(None, *keys, task="classify", model=model, train=home / "reviews.jsonl", output_dir="run")
    assert judged == [[]] * 3
    assert len(saved) >= len(learning) == 3
    assert all(ATTENTION_NAME in found and len(found) >= 3 for found in learning)
    assert all(found.keys() == load_file("run/model/model.safetensors").keys() for found in saved)
    assert ATTENTION_NAME not in Path("run/model/config.json").read_text(encoding="utf-8")


def test_a_run_that_fails_leaves_a_plain_model(home: Path, tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    models = []

    def failing(self: StepTrainer, model: Any, *more: Any) -> Any:
        models.append(model)
        assert ATTENTION_NAME in traces(model)
        raise InternalError("nothing works", "try again")

    monkeypatch.setattr(StepTrainer, "training_step", failing)
    with pytest.raises(InternalError):
        trained(home, tiny, "failed")
    assert traces(models[0]) == []


@pytest.mark.parametrize(
    ("key", "why"),
    [("train.fast_path=off", "train.fast_path=off"), ("train.hf={activation_checkpointing: true}", "beside gradient checkpointing")],
)  # fmt: skip
def test_why_there_are_none_is_said(
    home: Path, tiny: str, key: str, why: str, capsys: pytest.CaptureFixture[str], own_folder: Path
) -> None:
    keys = ("train.max_steps=1", "eval.baselines=[]", key)
    llmkit.train(None, *keys, task="classify", model=tiny, train=home / "reviews.jsonl", output_dir="run")
    assert f"shortcuts: none ({why}); batches are padded\n" in capsys.readouterr().err


OWN = '''
"""A loss that looks at the padded batch."""
from torch.nn.functional import cross_entropy

from llmkit.tasks.classify import Classify


class Own(Classify):
    def loss(self, outputs, batch):
        weight = batch["attention_mask"].sum(1) * (batch["input_ids"] > 3).sum(1)
        return (cross_entropy(outputs.logits.float(), batch["labels"], reduction="none") * weight).sum()
'''


def test_a_tasks_own_loss_sees_the_padded_batch(home: Path, tiny: str) -> None:
    Path("own.py").write_text(OWN, encoding="utf-8")
    losses = []
    for shortcuts in ("auto", "off"):
        keys = ("train.max_steps=2", "train.logging_steps=1", f"train.fast_path={shortcuts}", "eval.baselines=[]",
                "model.config={hidden_dropout_prob: 0.0, attention_probs_dropout_prob: 0.0}")  # fmt: skip
        run = llmkit.train(None, *keys, task="./own.py", model=tiny, train=home / "reviews.jsonl", output_dir=shortcuts)
        log = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
        losses.append([event["loss"] for event in log if "loss" in event])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("scale", [1e-6, 1.0])
def test_a_head_that_looks_at_all_positions_is_found_however_small_its_logits(tmp_path: Path, scale: float) -> None:
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
    packing, why = try_padding_free(loaded.model, pad_features(loaded.tokenizer, features))
    assert packing is None
    assert why == "its logits would differ, or are equal for all texts"
