"""A step's update depends on its rows, never on how they are cut: the real trainer against plain autograd."""

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
from llmkit.recipe.load import load_recipe
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.testing import make_reviews, make_tiny_model
from llmkit.training.arguments import build_training_arguments, get_micro_batch_rows
from llmkit.training.trainer import StepTrainer

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
RATE = 0.5
CUTS = {"8x1": (8, 1), "4x2": (4, 2), "2x4": (2, 4)}
KINDS = ("multi", "regression", "pairs")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_tiny_model(tmp_path_factory.mktemp("gradient") / "model", **NO_DROPOUT)


def rows(number: int) -> Any:
    made = make_reviews(number, seed=3)
    for i, row in enumerate(made):  # one class is rare, and lengths run from 3 tokens to 50
        row["label"] = "rare" if i % 5 == 0 else row["label"]
        row["text"] = " ".join([row["text"]] * (1 + i % 4))
    columns = {name: [row[name] for row in made] for name in ("text", "label")}
    return build_rows(columns, "rows", range(number), row_numbered=True).with_column_mapping(
        {"text": "text", "label": "label"}
    )


def rows_of(kind: str, number: int) -> Any:
    """The same texts with several labels, a number, or a second text of unequal length."""
    plain = rows(number)
    columns = {name: plain.texts(name) for name in ("text", "label")}
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


def task_of(train: Any, weights: Any = "none", smoothing: float = 0.0, kind: Any = "single") -> Classify:
    task = Classify(ClassifyOptions(kind=kind, class_weights=weights, label_smoothing=smoothing))
    task.fit(train, {})
    return task


def trained(
    model: str,
    folder: Path,
    batch: int,
    accumulation: int,
    weights: Any,
    number: int,
    *more: str,
    kind: str = "single",
    shortcuts: str = "auto",
) -> dict[str, Any]:
    """The weights after one epoch of `number` rows with plain SGD, and the trainer."""
    train = rows(number) if kind == "single" else rows_of(kind, number)
    task = task_of(train, weights, kind="single" if kind == "pairs" else kind)
    recipe = load_recipe(
        None,
        [
            f"train.per_device_train_batch_size={batch}",
            f"train.gradient_accumulation_steps={accumulation}",
            "train.num_train_epochs=1",
            "train.eval_strategy=no",
            "train.save_strategy=no",
            "train.optim=sgd",
            f"train.learning_rate={RATE}",
            "train.lr_scheduler_type=constant",
            "train.warmup_steps=0",
            "train.weight_decay=0",
            "train.max_grad_norm=0",
            *more,
        ],
        task="classify",
    )
    torch.manual_seed(0)
    head = task.head()
    loaded = load_model(resolve_model(model), head.auto_class, head.config)
    trainer = StepTrainer(
        loaded.model,
        build_training_arguments(recipe, folder, "fp32", "accuracy"),
        task=task,
        tokenizer=loaded.tokenizer,
        train=task.encode(train, loaded.tokenizer, 64).features,
        validation=[],
        references=[],
        metrics=["accuracy"],
        micro_batch_rows=get_micro_batch_rows(recipe.train),
        max_length=64,
        fast_path=shortcuts,
    )
    assert (trainer.fast_path.padding_free is None) == (shortcuts == "off")
    trainer.train()
    return {"weights": flat(loaded.model), "trainer": trainer, "task": task, "model": loaded.model, "rows": train}


def flat(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("weights", ["none", "balanced", {"rare": 7.0, "good": 0.25}])
@pytest.mark.parametrize("number", [8, 20])  # 20 rows: the last step of the epoch is short
def test_a_step_is_the_same_however_it_is_cut(model: str, tmp_path: Path, weights: Any, number: int) -> None:
    runs = {name: trained(model, tmp_path / name, *cut, weights, number) for name, cut in CUTS.items()}
    assert {run["trainer"].state.global_step for run in runs.values()} == {-(-number // 8)}
    moved = (runs["8x1"]["weights"] - flat(fresh_model(model, runs["8x1"]["task"]))).abs().max()
    assert moved > 1e-3
    for name in ("4x2", "2x4"):
        torch.testing.assert_close(runs[name]["weights"], runs["8x1"]["weights"], rtol=0, atol=1e-6)


def fresh_model(model: str, task: Classify) -> Any:
    torch.manual_seed(0)
    head = task.head()
    return load_model(resolve_model(model), head.auto_class, head.config).model


@pytest.mark.parametrize("weights", ["none", "balanced"])
def test_a_step_is_the_plain_gradient_of_the_weighted_mean(model: str, tmp_path: Path, weights: Any) -> None:
    run = trained(model, tmp_path, 2, 4, weights, 8)
    plain = fresh_model(model, run["task"]).train()
    task, tokenizer = run["task"], run["trainer"].tokenizer
    batch = tokenizer(run["rows"].texts("text"), padding=True, truncation=True, max_length=64, return_tensors="pt")
    labels = torch.tensor([task.labels.index(label) for label in run["rows"].texts("label")])
    weight = None if task.kind.weights is None else torch.tensor(task.kind.weights)
    loss = torch.nn.functional.cross_entropy(plain(**batch).logits, labels, weight=weight)
    loss.backward()
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    torch.testing.assert_close(run["weights"], flat(plain), rtol=0, atol=1e-6)


def mean_loss(task: Classify, train: Any, logits: torch.Tensor) -> torch.Tensor:
    """Torch's own mean loss over the rows, written down without the task's."""
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


@pytest.mark.parametrize("shortcuts", ["auto", "off"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_steps_as_plain_autograd_however_it_is_cut(
    model: str, tmp_path: Path, kind: str, shortcuts: str
) -> None:
    weights = "balanced" if kind == "multi" else "none"
    runs = [
        trained(model, tmp_path / name, *cut, weights, 8, kind=kind, shortcuts=shortcuts) for name, cut in CUTS.items()
    ]
    plain = fresh_model(model, runs[0]["task"]).train()
    tokenizer, train = runs[0]["trainer"].tokenizer, runs[0]["rows"]
    pairs = train.texts("text_pair") if kind == "pairs" else None
    batch = tokenizer(train.texts("text"), pairs, padding=True, truncation=True, max_length=64, return_tensors="pt")
    before = flat(plain)
    mean_loss(runs[0]["task"], train, plain(**batch).logits).backward()
    with torch.no_grad():
        for parameter in plain.parameters():
            if parameter.grad is not None:
                parameter -= RATE * parameter.grad
    assert (flat(plain) - before).abs().max() > 1e-3
    for run in runs:
        torch.testing.assert_close(run["weights"], flat(plain), rtol=0, atol=1e-6)


def test_rows_and_lengths_alone_decide_the_cut_and_padding_is_little(model: str, tmp_path: Path) -> None:
    trainer = trained(model, tmp_path, 8, 2, "none", 40)["trainer"]
    step = trainer.cutter.cut(trainer.items(range(40)))
    stock = 40 * max(len(feature["input_ids"]) for feature in trainer.train_dataset.features)
    assert step["tokens"] <= step["padded"] < 0.85 * stock
    assert sum(len(batch["labels"]) for batch in step["batches"]) == 40


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_never_change_the_data(model: str, tmp_path: Path, workers: int) -> None:
    run = trained(model, tmp_path, 4, 2, "balanced", 20, f"train.dataloader_num_workers={workers}")
    alone = trained(model, tmp_path / "alone", 4, 2, "balanced", 20)
    assert torch.equal(run["weights"], alone["weights"])


def stock_update(model: str, folder: Path, batch: int, accumulation: int) -> float:
    """How far the stock Trainer moves the weights in one step over the same eight rows."""
    train = rows(8)
    task = task_of(train)
    torch.manual_seed(0)
    loaded = load_model(resolve_model(model), "AutoModelForSequenceClassification", task.head().config)
    before = flat(loaded.model)
    arguments = TrainingArguments(
        str(folder), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, num_train_epochs=1,
        optim="sgd", learning_rate=RATE, lr_scheduler_type="constant", max_grad_norm=0.0, save_strategy="no",
        use_cpu=True, report_to="none", disable_tqdm=True,
    )  # fmt: skip
    features: Sequence[Any] = task.encode(train, loaded.tokenizer, 64).features
    Trainer(loaded.model, arguments, train_dataset=list(features), processing_class=loaded.tokenizer).train()
    return float((flat(loaded.model) - before).norm())


def test_the_stock_trainer_still_has_the_fault_that_this_design_answers(model: str, tmp_path: Path) -> None:
    """When an upgrade mends it, this test says so and docs/speed.md can say less."""
    assert AutoModelForSequenceClassification is not None
    once, twice = stock_update(model, tmp_path / "a", 8, 1), stock_update(model, tmp_path / "b", 2, 4)
    assert twice == pytest.approx(4 * once, rel=0.2)
