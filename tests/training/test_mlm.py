"""Masked-language modelling through the real trainer: one gradient however a step is cut, one mask whoever draws it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, AutoTokenizer

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.data.rows import build_rows
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.recipe.load import load_recipe
from llmkit.tasks.mlm import Mlm, MlmOptions
from llmkit.testing import make_sentences, make_tiny_model
from llmkit.training.arguments import build_training_arguments, get_micro_batch_rows
from llmkit.training.trainer import StepTrainer

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATE = 0.5
LENGTH = 48
CUTS = [(8, 1), (4, 2), (2, 4)]
FIXED = ["eval_strategy=no", "save_strategy=no", "optim=sgd", f"learning_rate={RATE}", "lr_scheduler_type=constant",
         "warmup_steps=0", "weight_decay=0", "max_grad_norm=0"]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gradient") / "model"
    return make_tiny_model(folder, auto_class="AutoModelForMaskedLM", texts=make_sentences(), **NO_DROPOUT)


def trainer_of(
    model: str, folder: Path, *keys: str, texts: int = 40, rows: str = "blocks", shortcuts: str = "auto"
) -> Any:
    """The real trainer on made-up sentences, not started."""
    recipe = load_recipe(None, ["train.num_train_epochs=1", *(f"train.{key}" for key in [*FIXED, *keys])], task="mlm")
    train = build_rows({"text": make_sentences(texts)}, "c.txt", range(1, texts + 1)).with_column_mapping(
        {"text": "text"}
    )
    task = Mlm(MlmOptions(packing=rows))  # type: ignore[arg-type]
    torch.manual_seed(0)
    loaded = load_model(resolve_model(model), task.head().auto_class, {})
    return StepTrainer(
        loaded.model,
        build_training_arguments(recipe, folder, "fp32", "loss"),
        task=task,
        tokenizer=loaded.tokenizer,
        train=task.encode_train(train, loaded.tokenizer, LENGTH).features,
        validation=[],
        references=[],
        metrics=["loss"],
        micro_batch_rows=get_micro_batch_rows(recipe.train),
        max_length=LENGTH,
        fast_path=shortcuts,
    )


def flat(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(*args: Any, **words: Any) -> torch.Tensor:
    """The weights after an epoch."""
    trainer = trainer_of(*args, **words)
    trainer.train()
    return flat(trainer.model)


def plain(model: str, trainer: Any) -> torch.Tensor:
    """The weights after one step of plain autograd on the masks that the trainer draws: the mean over all of them."""
    fresh = AutoModelForMaskedLM.from_pretrained(model).train()
    drawn = [
        one for i, block in enumerate(trainer.train_dataset.features) for one in trainer.task.drawn(block, (42, 0, i))
    ]
    total, count = torch.zeros(()), 0
    for piece in drawn:  # one document a row: none sees another, none is padded
        labels = torch.as_tensor(np.asarray(piece["labels"]))
        logits = fresh(torch.as_tensor(np.asarray(piece["input_ids"]))[None]).logits[0]
        total = total + cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        count += int((labels != IGNORE_INDEX).sum())
    (total / count).backward()
    with torch.no_grad():
        for weight in fresh.parameters():
            if weight.grad is not None:
                weight -= RATE * weight.grad
    return flat(fresh)


@pytest.mark.parametrize("rows", ["blocks", "documents"])
@pytest.mark.parametrize("shortcuts", ["auto", "off"])
def test_step_gradient_equals_plain_autograd_for_any_split(model: str, tmp_path: Path, rows: str, shortcuts: str) -> None:
    """Packed, padded or alone, in 8x1, 4x2 or 2x4: the same update."""
    texts = 7 if rows == "documents" else 12
    found = []
    for batch, accumulation in CUTS:
        keys = [f"per_device_train_batch_size={batch}", f"gradient_accumulation_steps={accumulation}"]
        trainer = trainer_of(model, tmp_path / f"{batch}", *keys, texts=texts, rows=rows, shortcuts=shortcuts)
        assert 1 < len(trainer.train_dataset) <= 8  # one step
        assert (trainer.shortcuts.packing is None) == (shortcuts == "off")
        expected = plain(model, trainer)
        trainer.train()
        assert trainer.state.global_step == 1
        found.append(flat(trainer.model))
    before = flat(AutoModelForMaskedLM.from_pretrained(model))
    assert float((expected - before).abs().max()) > 1e-3
    for one in found:
        torch.testing.assert_close(one, expected, rtol=0, atol=1e-6)


def test_documents_in_a_block_do_not_attend_to_each_other(model: str, tmp_path: Path) -> None:
    """With the same tokens hidden the update is that of the documents by themselves."""
    updates = []
    for rows in ("blocks", "documents"):
        trainer = trainer_of(model, tmp_path / rows, "per_device_train_batch_size=64", texts=12, rows=rows)
        trainer.task.drawn = lambda feature, key: every_second(feature)
        trainer.train()
        updates.append(flat(trainer.model))
    torch.testing.assert_close(updates[0], updates[1], rtol=0, atol=1e-6)


def every_second(block: Any) -> list[dict[str, Any]]:
    """The documents of a block with every second token hidden, whatever the key."""
    pieces = np.split(block["input_ids"], np.cumsum(block["sizes"])[:-1])
    found = []
    for ids in pieces:
        asked = np.arange(len(ids)) % 2 == 1
        asked[-1] = False
        found.append({"input_ids": np.where(asked, 4, ids), "labels": np.where(asked, ids, IGNORE_INDEX)})
    return found


@pytest.mark.parametrize("more", [[], ["hf.dataloader_persistent_workers=true"]])
def test_workers_do_not_change_the_masks(model: str, tmp_path: Path, more: list[str]) -> None:
    keys = ["per_device_train_batch_size=2", "num_train_epochs=3"]
    alone = trained(model, tmp_path / "alone", *keys)
    assert torch.equal(trained(model, tmp_path / "two", *keys, "dataloader_num_workers=2", *more), alone)


def labels_of(trainer: Any, items: list[Any]) -> list[list[int]]:
    """The labelled tokens of the step that the loader makes of these items, document by document, in any order."""
    return sorted(
        row[row != IGNORE_INDEX].tolist() for batch in trainer.cutter.cut(items)["batches"] for row in batch["labels"]
    )


def test_masks_do_not_depend_on_row_order_or_batch(model: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path, "per_device_train_batch_size=4")
    rows = list(range(len(trainer.train_dataset)))
    together = labels_of(trainer, trainer.items(rows, 1))
    assert labels_of(trainer, trainer.items(rows[::-1], 1)) == together
    alone = [one for row in rows for one in labels_of(trainer, trainer.items([row], 1))]
    assert sorted(alone) == together


def test_other_epoch_or_seed_gives_other_masks(model: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path / "a", "per_device_train_batch_size=4")
    other = trainer_of(model, tmp_path / "b", "per_device_train_batch_size=4", "seed=7")
    rows = list(range(len(trainer.train_dataset)))
    drawn = [labels_of(trainer, trainer.items(rows, epoch)) for epoch in (0, 1, 2)]
    drawn.append(labels_of(other, other.items(rows, 0)))
    assert all(one != two for i, one in enumerate(drawn) for two in drawn[:i])


def test_dataloader_uses_each_epoch_in_turn(model: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path, "per_device_train_batch_size=4")
    rows = list(range(len(trainer.train_dataset)))
    loader = trainer.get_train_dataloader()
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        seen = sorted(
            row[row != IGNORE_INDEX].tolist() for step in loader for b in step["batches"] for row in b["labels"]
        )
        assert seen == labels_of(trainer, trainer.items(rows, epoch))


def test_step_loss_is_divided_by_its_masked_tokens(model: str, tmp_path: Path) -> None:
    trainer = trainer_of(model, tmp_path, "per_device_train_batch_size=4")
    step = trainer.cutter.cut(trainer.items([0, 1, 2]))
    assert step["count"] == sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in step["batches"])
    tokenizer = AutoTokenizer.from_pretrained(model)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    hidden = [one for batch in step["batches"] for one in batch["labels"][batch["labels"] != IGNORE_INDEX].tolist()]
    assert not special & set(hidden)
