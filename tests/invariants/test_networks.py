"""Networks: gradients do not depend on micro-batches, predictions do not depend on the rest of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import cross_entropy

from llmkit.data.rows import build_rows
from llmkit.inference.batched import predict_batches
from llmkit.models.scratch.from_config import build_scratch_network
from llmkit.models.scratch.sizes import NETWORK_NAMES
from llmkit.models.sources.model_ref import ModelRef
from llmkit.tasks.classify import Classify
from llmkit.testing import PLAIN_SGD_KEYS, flatten_weights, make_reviews, make_tiny_tokenizer, make_tiny_trainer
from llmkit.training.trainer import StepTrainer

MICRO_BATCHES = {"8x1": (8, 1), "4x2": (4, 2), "2x4": (2, 4)}
SIZES: dict[str, dict[str, Any]] = {
    kind: {"hidden_size": 8} if kind not in ("cnn", "bag") else {} for kind in NETWORK_NAMES
} | {"cnn": {"num_filters": 6}}


def make_rows(number: int) -> Any:
    reviews = make_reviews(number, seed=3)
    for i, row in enumerate(reviews):
        row["text"] = " ".join([row["text"]] * (1 + i % 4))
    columns = {name: [row[name] for row in reviews] for name in ("text", "label")}
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {"text": "text", "label": "label"}
    )


def fit_task(train: Any) -> Classify:
    task = Classify()
    task.fit(train, {})
    return task


def make_network(kind: str, task: Classify, folder: Path) -> Any:
    torch.manual_seed(0)
    overrides, head = {"dropout": 0.0, "embedding_size": 8, **SIZES[kind]}, task.head()
    tokenizer = make_tiny_tokenizer(folder / "tokenizer")
    return build_scratch_network(ModelRef(kind, ""), head.auto_class, overrides, tokenizer, 64, "float32", head.config)


def make_trainer(kind: str, folder: Path, batch: int, accumulation: int, rows: Any) -> StepTrainer:
    sizes = (
        f"train.per_device_train_batch_size={batch}",
        f"train.gradient_accumulation_steps={accumulation}",
        "train.learning_rate=0.5",
    )
    task = fit_task(rows)
    return make_tiny_trainer(task, make_network(kind, task, folder), rows, folder, *PLAIN_SGD_KEYS, *sizes)


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_any_micro_batch_size_gives_the_same_step(kind: str, tmp_path: Path) -> None:
    rows = make_rows(8)
    task = fit_task(rows)
    plain = make_network(kind, task, tmp_path)
    before = flatten_weights(plain.model)
    batch = plain.tokenizer(rows.texts("text"), padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = torch.tensor([task.labels.index(label) for label in rows.texts("label")])
    cross_entropy(plain.model.train()(**batch).logits, labels).backward()
    with torch.no_grad():
        for weight in plain.model.parameters():
            weight -= 0.5 * weight.grad
    assert (flatten_weights(plain.model) - before).abs().max() > 1e-3
    for name, sizes in MICRO_BATCHES.items():
        trainer = make_trainer(kind, tmp_path / name, *sizes, rows)
        assert trainer.fast_path.describe() == (
            "fast path: off (a network without attention does not need it); batches are padded"
        )
        trainer.train()
        torch.testing.assert_close(flatten_weights(trainer.model), flatten_weights(plain.model), rtol=0, atol=1e-6)


def test_a_step_takes_few_forward_passes(tmp_path: Path) -> None:
    """A pass of an RNN costs as much as its longest text, so texts of all lengths share a pass."""
    trainer = make_trainer("gru", tmp_path, 32, 1, make_rows(32))
    assert len(trainer.step_collator.collate_step(trainer.load_features(range(32)))["batches"]) <= 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_a_prediction_does_not_depend_on_its_batch(kind: str, tmp_path: Path) -> None:
    rows = make_rows(24)
    task = fit_task(rows)
    loaded = make_network(kind, task, tmp_path)
    features = task.encode(rows, loaded.tokenizer, 64).features
    alone = [predict_batches(task, loaded.model, loaded.tokenizer, [feature], 1)[0] for feature in features]

    @settings(max_examples=10, deadline=None)
    @given(st.permutations(range(24)), st.integers(1, 24))
    def check_order(order: list[int], size: int) -> None:
        some = predict_batches(task, loaded.model, loaded.tokenizer, [features[i] for i in order], size)
        for i, one in zip(order, some, strict=True):
            assert one.value == alone[i].value
            assert one.probabilities == pytest.approx(alone[i].probabilities, rel=0, abs=1e-6)

    check_order()
