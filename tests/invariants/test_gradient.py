"""A step's update depends on its rows, not on the micro-batches: the trainer against plain autograd."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, Trainer, TrainingArguments

from llmkit.data.rows import build_rows
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.testing import PLAIN_SGD_KEYS, flatten_weights, make_reviews, make_tiny_model, make_tiny_trainer

pytestmark = pytest.mark.slow

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATE = 0.5
BATCH_SIZES = {"8x1": (8, 1), "4x2": (4, 2), "2x4": (2, 4)}
KINDS = ("multi", "regression", "pairs")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("gradient") / "model", **NO_DROPOUT)


def rows(number: int) -> Any:
    reviews = make_reviews(number, seed=3)
    for i, row in enumerate(reviews):  # one class is rare, and lengths are 3 to 50 tokens
        row["label"] = "rare" if i % 5 == 0 else row["label"]
        row["text"] = " ".join([row["text"]] * (1 + i % 4))
    columns = {name: [row[name] for row in reviews] for name in ("text", "label")}
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {"text": "text", "label": "label"}
    )


def make_rows(kind: str, number: int) -> Any:
    """Return the same texts with several labels, a number, or a second text of another length."""
    single_label = rows(number)
    columns = {name: single_label.texts(name) for name in ("text", "label")}
    if kind == "multi":
        columns["label"] = [
            "|".join(name for name in "abc" if (i + ord(name)) % 3 < 1 + (i % 2)) for i in range(number)
        ]
    if kind == "regression":
        columns["label"] = [f"{2000 + 7.5 * i}" for i in range(number)]
    if kind == "pairs":
        columns["text_pair"] = [" ".join(text.split()[:: 1 + i % 5]) for i, text in enumerate(columns["text"])]
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {name: name for name in columns}
    )


def fit_task(train: Any, weights: Any = "none", smoothing: float = 0.0, kind: Any = "single") -> Classify:
    task = Classify(ClassifyOptions(kind=kind, class_weights=weights, label_smoothing=smoothing))
    task.fit(train, {})
    return task


def train_one_epoch(
    model: str,
    folder: Path,
    batch: int,
    accumulation: int,
    weights: Any,
    number: int,
    *keys: str,
    kind: str = "single",
    fast_path: str = "auto",
) -> dict[str, Any]:
    """Return the weights after one epoch of SGD over `number` rows, and the trainer."""
    train = rows(number) if kind == "single" else make_rows(kind, number)
    task = fit_task(train, weights, kind="single" if kind == "pairs" else kind)
    torch.manual_seed(0)
    head = task.head()
    loaded = load_model(resolve_model(model), head.auto_class, head.config)
    sizes = (
        f"train.per_device_train_batch_size={batch}",
        f"train.gradient_accumulation_steps={accumulation}",
        f"train.learning_rate={RATE}",
    )
    trainer = make_tiny_trainer(task, loaded, train, folder, *PLAIN_SGD_KEYS, *sizes, *keys, fast_path=fast_path)
    assert (trainer.fast_path.padding_free is None) == (fast_path == "off")
    trainer.train()
    return {
        "weights": flatten_weights(loaded.model),
        "trainer": trainer,
        "task": task,
        "model": loaded.model,
        "rows": train,
    }


@pytest.mark.parametrize("weights", ["none", "balanced", {"rare": 7.0, "good": 0.25}])
@pytest.mark.parametrize("number", [8, 20])  # 20 rows: the last step of the epoch is short
def test_step_does_not_depend_on_batch_size(model: str, tmp_path: Path, weights: Any, number: int) -> None:
    runs = {
        name: train_one_epoch(model, tmp_path / name, *sizes, weights, number) for name, sizes in BATCH_SIZES.items()
    }
    assert {run["trainer"].state.global_step for run in runs.values()} == {-(-number // 8)}
    update = (runs["8x1"]["weights"] - flatten_weights(load_untrained_model(model, runs["8x1"]["task"]))).abs().max()
    assert update > 1e-3
    for name in ("4x2", "2x4"):
        torch.testing.assert_close(runs[name]["weights"], runs["8x1"]["weights"], rtol=0, atol=1e-6)


def load_untrained_model(model: str, task: Classify) -> Any:
    torch.manual_seed(0)
    head = task.head()
    return load_model(resolve_model(model), head.auto_class, head.config).model


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_step_is_the_gradient_of_the_weighted_mean(model: str, tmp_path: Path, weights: Any) -> None:
    run = train_one_epoch(model, tmp_path, 2, 4, weights, 8)
    reference = load_untrained_model(model, run["task"]).train()
    task, tokenizer = run["task"], run["trainer"].tokenizer
    batch = tokenizer(run["rows"].texts("text"), padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = torch.tensor([task.labels.index(label) for label in run["rows"].texts("label")])
    weight = None if task.problem_type.weights is None else torch.tensor(task.problem_type.weights)
    loss = torch.nn.functional.cross_entropy(reference(**batch).logits, labels, weight=weight)
    loss.backward()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    torch.testing.assert_close(run["weights"], flatten_weights(reference), rtol=0, atol=1e-6)


def compute_mean_loss(task: Classify, train: Any, logits: torch.Tensor) -> torch.Tensor:
    """Compute the mean loss over the rows with torch alone, without the task's code."""
    if task.problem_type.name == "regression":
        numbers = torch.tensor([float(text) for text in train.texts("label")], dtype=torch.float64)
        standard = (numbers - numbers.mean()) / numbers.std(correction=0)
        return torch.nn.functional.mse_loss(logits[:, 0], standard.float())
    if task.problem_type.name == "multi_label_classification":
        flags = torch.tensor([[float(name in text) for name in "abc"] for text in train.texts("label")])
        weight = (len(flags) - flags.sum(0)) / flags.sum(0)
        return torch.nn.functional.binary_cross_entropy_with_logits(logits, flags, pos_weight=weight)
    labels = torch.tensor([task.labels.index(label) for label in train.texts("label")])
    return torch.nn.functional.cross_entropy(logits, labels)


@pytest.mark.parametrize("fast_path", ["auto", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_problem_type_equals_plain_autograd(model: str, tmp_path: Path, kind: str, fast_path: str) -> None:
    weights = "balanced" if kind == "multi" else "none"
    runs = [
        train_one_epoch(model, tmp_path / name, *sizes, weights, 8, kind=kind, fast_path=fast_path)
        for name, sizes in BATCH_SIZES.items()
    ]
    reference = load_untrained_model(model, runs[0]["task"]).train()
    tokenizer, train = runs[0]["trainer"].tokenizer, runs[0]["rows"]
    pairs = train.texts("text_pair") if kind == "pairs" else None
    batch = tokenizer(train.texts("text"), pairs, padding=True, truncation=True, max_length=64, return_tensors="pt")
    before = flatten_weights(reference)
    compute_mean_loss(runs[0]["task"], train, reference(**batch).logits).backward()
    with torch.no_grad():
        for parameter in reference.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    assert (flatten_weights(reference) - before).abs().max() > 1e-3
    for run in runs:
        torch.testing.assert_close(run["weights"], flatten_weights(reference), rtol=0, atol=1e-6)


def test_micro_batches_keep_all_rows_with_little_padding(model: str, tmp_path: Path) -> None:
    trainer = train_one_epoch(model, tmp_path, 8, 2, "none", 40)["trainer"]
    step = trainer.step_collator.collate_step(trainer.load_features(range(40)))
    stock_padded = 40 * max(len(feature["input_ids"]) for feature in trainer.train_dataset.features)
    assert step["tokens"] <= step["padded"] < 0.85 * stock_padded
    assert sum(len(batch["labels"]) for batch in step["batches"]) == 40


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_do_not_change_the_data(model: str, tmp_path: Path, workers: int) -> None:
    run = train_one_epoch(model, tmp_path, 4, 2, "balanced", 20, f"train.dataloader_num_workers={workers}")
    single = train_one_epoch(model, tmp_path / "alone", 4, 2, "balanced", 20)
    assert torch.equal(run["weights"], single["weights"])


def measure_stock_update(model: str, folder: Path, batch: int, accumulation: int) -> float:
    """Return the norm of the stock Trainer's weight update in one step over the same eight rows."""
    train = rows(8)
    task = fit_task(train)
    torch.manual_seed(0)
    loaded = load_model(resolve_model(model), "AutoModelForSequenceClassification", task.head().config)
    before = flatten_weights(loaded.model)
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=1,
        optim="sgd", learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no",
        use_cpu=True, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    features: Sequence[Any] = task.encode(train, loaded.tokenizer, 64).features
    Trainer(loaded.model, arguments, train_dataset=list(features), processing_class=loaded.tokenizer).train()
    return float((flatten_weights(loaded.model) - before).norm())


def test_stock_trainer_still_scales_with_accumulation(model: str, tmp_path: Path) -> None:
    """If this fails after an upgrade, transformers fixed the scaling: update docs/speed.md."""
    assert AutoModelForSequenceClassification is not None
    once, twice = measure_stock_update(model, tmp_path / "a", 8, 1), measure_stock_update(model, tmp_path / "b", 2, 4)
    assert twice == pytest.approx(4 * once, rel=0.2)
