"""Tests masked language modeling in the real trainer: same gradient for any split of a step, same masks in any worker."""

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
from llmkit.tasks.mlm import Mlm, MlmOptions
from llmkit.testing import PLAIN_SGD_KEYS, flatten_weights, make_sentences, make_tiny_model, make_tiny_trainer

pytestmark = pytest.mark.slow

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATE = 0.5
LENGTH = 48
SPLITS = [(8, 1), (4, 2), (2, 4)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("gradient") / "model"
    return make_tiny_model(folder, auto_class="AutoModelForMaskedLM", texts=make_sentences(), **NO_DROPOUT)


def build_mlm_trainer(
    model: str, folder: Path, *keys: str, texts: int = 40, rows: str = "blocks", fast_path: str = "auto"
) -> Any:
    """Build the real trainer on generated sentences."""
    train = build_rows({"text": make_sentences(texts)}, "c.txt", range(1, texts + 1)).with_column_mapping(
        {"text": "text"}
    )
    task = Mlm(MlmOptions(packing=rows))  # type: ignore[arg-type]
    torch.manual_seed(0)
    loaded = load_model(resolve_model(model), task.head().auto_class, {})
    options = [f"train.learning_rate={RATE}", *(f"train.{key}" for key in keys)]
    return make_tiny_trainer(
        task, loaded, train, folder, *PLAIN_SGD_KEYS, *options, max_length=LENGTH, fast_path=fast_path
    )


def train_weights(*args: Any, **options: Any) -> torch.Tensor:
    """Return the weights after an epoch."""
    trainer = build_mlm_trainer(*args, **options)
    trainer.train()
    return flatten_weights(trainer.model)


def autograd_weights(model: str, trainer: Any) -> torch.Tensor:
    """Return the weights after one step of plain autograd on the trainer's masks, by the mean over all of them."""
    reference = AutoModelForMaskedLM.from_pretrained(model).train()
    augmented = [
        value
        for i, block in enumerate(trainer.train_dataset.features)
        for value in trainer.task.augment(block, (42, 0, i))
    ]
    total, count = torch.zeros(()), 0
    for document in augmented:  # one document per row: no attention between documents, no padding
        labels = torch.as_tensor(np.asarray(document["labels"]))
        logits = reference(torch.as_tensor(np.asarray(document["input_ids"]))[None]).logits[0]
        total = total + cross_entropy(logits, labels, ignore_index=IGNORE_INDEX, reduction="sum")
        count += int((labels != IGNORE_INDEX).sum())
    (total / count).backward()
    with torch.no_grad():
        for weight in reference.parameters():
            if weight.grad is not None:
                weight -= RATE * weight.grad
    return flatten_weights(reference)


@pytest.mark.parametrize("rows", ["blocks", "documents"])
@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_step_gradient_equals_plain_autograd_for_any_split(
    model: str, tmp_path: Path, rows: str, fast_path: str
) -> None:
    """Unpadded, padded or alone, in 8x1, 4x2 or 2x4: the same update."""
    texts = 7 if rows == "documents" else 12
    results = []
    for batch, accumulation in SPLITS:
        keys = [f"per_device_train_batch_size={batch}", f"gradient_accumulation_steps={accumulation}"]
        trainer = build_mlm_trainer(model, tmp_path / f"{batch}", *keys, texts=texts, rows=rows, fast_path=fast_path)
        assert 1 < len(trainer.train_dataset) <= 8  # one step
        assert (trainer.fast_path.padding_free is None) == (fast_path == "off")
        expected = autograd_weights(model, trainer)
        trainer.train()
        assert trainer.state.global_step == 1
        results.append(flatten_weights(trainer.model))
    before = flatten_weights(AutoModelForMaskedLM.from_pretrained(model))
    assert float((expected - before).abs().max()) > 1e-3
    for value in results:
        torch.testing.assert_close(value, expected, rtol=0, atol=1e-6)


def test_documents_in_a_block_do_not_attend_to_each_other(model: str, tmp_path: Path) -> None:
    """With the same masked tokens the update equals that of separate documents."""
    updates = []
    for rows in ("blocks", "documents"):
        trainer = build_mlm_trainer(model, tmp_path / rows, "per_device_train_batch_size=64", texts=12, rows=rows)
        trainer.task.augment = lambda feature, key: mask_every_second(feature)
        trainer.train()
        updates.append(flatten_weights(trainer.model))
    torch.testing.assert_close(updates[0], updates[1], rtol=0, atol=1e-6)


def mask_every_second(block: Any) -> list[dict[str, Any]]:
    """Return the documents of a block with every second token masked."""
    pieces = np.split(block["input_ids"], np.cumsum(block["sizes"])[:-1])
    documents = []
    for ids in pieces:
        masked = np.arange(len(ids)) % 2 == 1
        masked[-1] = False
        documents.append({"input_ids": np.where(masked, 4, ids), "labels": np.where(masked, ids, IGNORE_INDEX)})
    return documents


@pytest.mark.parametrize("more", [[], ["hf.dataloader_persistent_workers=true"]])
def test_workers_do_not_change_the_masks(model: str, tmp_path: Path, more: list[str]) -> None:
    keys = ["per_device_train_batch_size=2", "num_train_epochs=3"]
    alone = train_weights(model, tmp_path / "alone", *keys)
    assert torch.equal(train_weights(model, tmp_path / "two", *keys, "dataloader_num_workers=2", *more), alone)


def collect_labels(trainer: Any, items: list[Any]) -> list[list[int]]:
    """Return the labeled tokens of the step that the dataloader collates from these items, per document, sorted."""
    return sorted(
        row[row != IGNORE_INDEX].tolist()
        for batch in trainer.step_collator.collate_step(items)["batches"]
        for row in batch["labels"]
    )


def test_masks_do_not_depend_on_row_order_or_batch(model: str, tmp_path: Path) -> None:
    trainer = build_mlm_trainer(model, tmp_path, "per_device_train_batch_size=4")
    rows = list(range(len(trainer.train_dataset)))
    together = collect_labels(trainer, trainer.load_features(rows, 1))
    assert collect_labels(trainer, trainer.load_features(rows[::-1], 1)) == together
    alone = [value for row in rows for value in collect_labels(trainer, trainer.load_features([row], 1))]
    assert sorted(alone) == together


def test_other_epoch_or_seed_gives_other_masks(model: str, tmp_path: Path) -> None:
    trainer = build_mlm_trainer(model, tmp_path / "a", "per_device_train_batch_size=4")
    other = build_mlm_trainer(model, tmp_path / "b", "per_device_train_batch_size=4", "seed=7")
    rows = list(range(len(trainer.train_dataset)))
    label_sets = [collect_labels(trainer, trainer.load_features(rows, epoch)) for epoch in (0, 1, 2)]
    label_sets.append(collect_labels(other, other.load_features(rows, 0)))
    assert all(one != two for i, one in enumerate(label_sets) for two in label_sets[:i])


def test_dataloader_uses_each_epoch_in_turn(model: str, tmp_path: Path) -> None:
    trainer = build_mlm_trainer(model, tmp_path, "per_device_train_batch_size=4")
    rows = list(range(len(trainer.train_dataset)))
    loader = trainer.get_train_dataloader()
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        labels = sorted(
            row[row != IGNORE_INDEX].tolist() for step in loader for b in step["batches"] for row in b["labels"]
        )
        assert labels == collect_labels(trainer, trainer.load_features(rows, epoch))


def test_step_loss_is_divided_by_its_masked_tokens(model: str, tmp_path: Path) -> None:
    trainer = build_mlm_trainer(model, tmp_path, "per_device_train_batch_size=4")
    step = trainer.step_collator.collate_step(trainer.load_features([0, 1, 2]))
    assert step["count"] == sum(int((batch["labels"] != IGNORE_INDEX).sum()) for batch in step["batches"])
    tokenizer = AutoTokenizer.from_pretrained(model)
    special = {tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
    labeled = [
        value for batch in step["batches"] for value in batch["labels"][batch["labels"] != IGNORE_INDEX].tolist()
    ]
    assert not special & set(labeled)
