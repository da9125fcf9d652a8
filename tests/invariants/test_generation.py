"""Seq2seq steps do not depend on their micro-batches, nor generated texts on batch, order or padding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn.functional import cross_entropy

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.data.rows import Rows, build_rows
from llmkit.inference.batched import predict_batches
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.tasks import load_task
from llmkit.tasks.summarize import SummarizeOptions
from llmkit.testing import PLAIN_SGD_KEYS, flatten_weights, make_articles, make_tiny_model, make_tiny_trainer

NO_DROPOUT = {"t5": {"dropout_rate": 0.0}, "bart": {"dropout": 0.0}}
RATE = 0.05
BATCH_SIZES = {"8x1": (8, 1), "4x2": (4, 2), "2x4": (2, 4)}


@pytest.fixture(scope="module", params=NO_DROPOUT)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(
        tmp_path_factory.mktemp("generation") / request.param, request.param, **NO_DROPOUT[request.param]
    )


def rows(number: int) -> Rows:
    """Sources of 5 to 60 tokens, and targets of uncorrelated lengths."""
    articles = make_articles(number, seed=3)
    texts = [" ".join([row["text"]] * (1 + i % 4)) for i, row in enumerate(articles)]
    summaries = [" ".join([row["summary"]] * (1 + (i * 5) % 7)) for i, row in enumerate(articles)]
    columns = {"text": texts, "summary": summaries}
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {name: name for name in columns}
    )


def load_configured(model: str, smoothing: float = 0.0) -> Any:
    task = load_task("summarize")(SummarizeOptions(label_smoothing=smoothing, max_target_length=32))
    loaded = load_model(resolve_model(model), task.head().auto_class, {})
    task.configure_model(loaded.model, loaded.tokenizer)
    return task, loaded


def train_one_step(model: str, folder: Path, batch: int, accumulation: int, smoothing: float) -> dict[str, Any]:
    """Return the weight update of one SGD step over eight rows, the weights before it, and the trainer."""
    task, loaded = load_configured(model, smoothing)
    before = flatten_weights(loaded.model)
    sizes = (
        f"train.per_device_train_batch_size={batch}",
        f"train.gradient_accumulation_steps={accumulation}",
        f"train.learning_rate={RATE}",
    )
    trainer = make_tiny_trainer(task, loaded, rows(8), folder, *PLAIN_SGD_KEYS, *sizes)
    trainer.train()
    return {"update": flatten_weights(loaded.model) - before, "before": before, "trainer": trainer}


@pytest.mark.slow
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_step_is_the_mean_over_target_tokens_for_every_batch_size(model: str, tmp_path: Path, smoothing: float) -> None:
    runs = {name: train_one_step(model, tmp_path / name, *sizes, smoothing) for name, sizes in BATCH_SIZES.items()}
    trainer = runs["2x4"]["trainer"]
    assert len(trainer.step_collator.collate_step(trainer.load_features(range(8)))["batches"]) > 1

    _, loaded = load_configured(model)
    reference, tokenizer = loaded.model.train(), loaded.tokenizer
    texts, summaries = (rows(8).texts(word) for word in ("text", "summary"))
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = tokenizer(summaries, padding=True, truncation=True, max_length=32, return_tensors="pt").input_ids[:, 1:]
    decoder = torch.cat([torch.full((8, 1), reference.config.decoder_start_token_id), labels[:, :-1]], dim=1)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = reference(**inputs, decoder_input_ids=decoder).logits
    cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0, label_smoothing=smoothing).backward()
    expected = torch.cat([-RATE * p.grad.flatten() for p in reference.parameters()])
    assert expected.abs().max() > 1e-3
    for run in runs.values():
        torch.testing.assert_close(run["update"], expected, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_step_counts_source_and_target_tokens(model: str, tmp_path: Path) -> None:
    trainer = train_one_step(model, tmp_path, 2, 4, 0.0)["trainer"]
    features = trainer.train_dataset.features
    step = trainer.step_collator.collate_step(trainer.load_features(range(8)))
    sources, targets = (sum(len(feature[name]) for feature in features) for name in ("input_ids", "labels"))
    assert (step["count"], step["tokens"]) == (targets, sources + targets)
    assert step["padded"] == sum(b["input_ids"].numel() + b["labels"].numel() for b in step["batches"])
    assert all((batch["labels"] == IGNORE_INDEX).any() or len(batch["labels"]) == 1 for batch in step["batches"])


def test_decoder_inputs_have_no_ignore_index(model: str) -> None:
    task, loaded = load_configured(model)
    batch = task.collator(loaded.tokenizer)(task.encode(rows(8), loaded.tokenizer, 64).features)
    labels = batch["labels"].clone()
    assert (labels == IGNORE_INDEX).any()
    decoder = task.inputs(loaded.model, batch)["decoder_input_ids"]
    assert int(decoder.min()) >= 0
    assert torch.equal(batch["labels"], labels)


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 3])
def test_predictions_do_not_depend_on_batch_order_or_padding_side(model: str, beams: int) -> None:
    task, loaded = load_configured(model)
    loaded.model.generation_config.num_beams = beams
    loaded.model.generation_config.eos_token_id = [3, *range(40, 60)]  # generated texts end at different lengths
    features = task.encode(rows(12), loaded.tokenizer, 64).features
    predictions = predict_batches(task, loaded.model, loaded.tokenizer, features, 12)
    assert len({len(prediction.value) for prediction in predictions}) > 1
    loaded.tokenizer.padding_side = "left"
    for size in (1, 5):
        assert predict_batches(task, loaded.model, loaded.tokenizer, features, size) == predictions
    assert predict_batches(task, loaded.model, loaded.tokenizer, features[::-1], 12) == predictions[::-1]
