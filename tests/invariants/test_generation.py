"""A step over sources and targets is the same however it is cut, and what is decoded hangs on no batch."""

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
from llmkit.recipe.load import load_recipe
from llmkit.tasks import load_task
from llmkit.tasks.summarize import SummarizeOptions
from llmkit.testing import make_articles, make_tiny_model
from llmkit.training.arguments import build_training_arguments, get_micro_batch_rows
from llmkit.training.trainer import StepTrainer

NO_DROPOUT = {"t5": {"dropout_rate": 0.0}, "bart": {"dropout": 0.0}}
RATE = 0.05
CUTS = {"8x1": (8, 1), "4x2": (4, 2), "2x4": (2, 4)}


@pytest.fixture(scope="module", params=NO_DROPOUT)
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(
        tmp_path_factory.mktemp("generation") / request.param, request.param, **NO_DROPOUT[request.param]
    )


def rows(number: int) -> Rows:
    """Sources of 5 to 60 tokens, and targets whose lengths do not go with theirs."""
    made = make_articles(number, seed=3)
    texts = [" ".join([row["text"]] * (1 + i % 4)) for i, row in enumerate(made)]
    summaries = [" ".join([row["summary"]] * (1 + (i * 5) % 7)) for i, row in enumerate(made)]
    columns = {"text": texts, "summary": summaries}
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {name: name for name in columns}
    )


def equipped(model: str, smoothing: float = 0.0) -> Any:
    task = load_task("summarize")(SummarizeOptions(label_smoothing=smoothing, max_target_length=32))
    loaded = load_model(resolve_model(model), task.head().auto_class, {})
    task.configure_model(loaded.model, loaded.tokenizer)
    return task, loaded


def flat(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def trained(model: str, folder: Path, batch: int, accumulation: int, smoothing: float) -> dict[str, Any]:
    """The weights after one step over eight rows with plain SGD, and what made them."""
    task, loaded = equipped(model, smoothing)
    keys = [
        f"train.per_device_train_batch_size={batch}", f"train.gradient_accumulation_steps={accumulation}",
        "train.num_train_epochs=1", "train.eval_strategy=no", "train.save_strategy=no", "train.optim=sgd",
        f"train.learning_rate={RATE}", "train.lr_scheduler_type=constant", "train.warmup_steps=0",
        "train.weight_decay=0", "train.max_grad_norm=0",
    ]  # fmt: skip
    recipe = load_recipe(None, keys, task="summarize")
    before = flat(loaded.model)
    trainer = StepTrainer(
        loaded.model, build_training_arguments(recipe, folder, "fp32", "rougeL"), task=task, tokenizer=loaded.tokenizer,
        train=task.encode_train(rows(8), loaded.tokenizer, 64).features, validation=[], references=[],
        metrics=["rougeL"], micro_batch_rows=get_micro_batch_rows(recipe.train), max_length=64,
    )  # fmt: skip
    trainer.train()
    return {"moved": flat(loaded.model) - before, "before": before, "trainer": trainer}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_step_is_the_plain_mean_over_target_tokens_however_it_is_cut(
    model: str, tmp_path: Path, smoothing: float
) -> None:
    runs = {name: trained(model, tmp_path / name, *cut, smoothing) for name, cut in CUTS.items()}
    cut = runs["2x4"]["trainer"]
    assert len(cut.cutter.cut(cut.items(range(8)))["batches"]) > 1

    _, loaded = equipped(model)
    plain, tokenizer = loaded.model.train(), loaded.tokenizer
    texts, summaries = (rows(8).texts(word) for word in ("text", "summary"))
    batch = tokenizer(texts, padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = tokenizer(summaries, padding=True, truncation=True, max_length=32, return_tensors="pt").input_ids[:, 1:]
    decoder = torch.cat([torch.full((8, 1), plain.config.decoder_start_token_id), labels[:, :-1]], dim=1)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    logits = plain(**inputs, decoder_input_ids=decoder).logits
    cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=0, label_smoothing=smoothing).backward()
    wanted = torch.cat([-RATE * p.grad.flatten() for p in plain.parameters()])
    assert wanted.abs().max() > 1e-3
    for run in runs.values():
        torch.testing.assert_close(run["moved"], wanted, rtol=0, atol=1e-6)


def test_a_step_counts_target_tokens_and_meters_both_sides(model: str, tmp_path: Path) -> None:
    trainer = trained(model, tmp_path, 2, 4, 0.0)["trainer"]
    features = trainer.train_dataset.features
    step = trainer.cutter.cut(trainer.items(range(8)))
    sources, targets = (sum(len(one[name]) for one in features) for name in ("input_ids", "labels"))
    assert (step["count"], step["tokens"]) == (targets, sources + targets)
    assert step["padded"] == sum(b["input_ids"].numel() + b["labels"].numel() for b in step["batches"])
    assert all((batch["labels"] == IGNORE_INDEX).any() or len(batch["labels"]) == 1 for batch in step["batches"])


def test_nothing_ignored_reaches_a_decoder(model: str) -> None:
    task, loaded = equipped(model)
    batch = task.collator(loaded.tokenizer)(task.encode(rows(8), loaded.tokenizer, 64).features)
    labels = batch["labels"].clone()
    assert (labels == IGNORE_INDEX).any()
    decoder = task.inputs(loaded.model, batch)["decoder_input_ids"]
    assert int(decoder.min()) >= 0
    assert torch.equal(batch["labels"], labels)


@pytest.mark.parametrize("beams", [1, 3])
def test_answers_hang_neither_on_the_batch_nor_on_the_order_nor_on_padding_side(model: str, beams: int) -> None:
    task, loaded = equipped(model)
    loaded.model.generation_config.num_beams = beams
    loaded.model.generation_config.eos_token_id = [3, *range(40, 60)]  # so that answers end at different lengths
    given = rows(12)
    features = task.encode(given, loaded.tokenizer, 64).features
    whole = predict_batches(task, loaded.model, loaded.tokenizer, features, 12)
    assert len({len(one.value) for one in whole}) > 1
    loaded.tokenizer.padding_side = "left"
    for size in (1, 5):
        assert predict_batches(task, loaded.model, loaded.tokenizer, features, size) == whole
    assert predict_batches(task, loaded.model, loaded.tokenizer, features[::-1], 12) == whole[::-1]
