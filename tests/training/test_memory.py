"""Tests the measured memory of a pass and the limit that follows from it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import llmkit
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import OutOfMemoryError
from llmkit.models.load import LoadedModel, load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.tasks.classify import Classify
from llmkit.testing import flatten_weights, make_reviews, make_tiny_trainer, write_jsonl
from llmkit.training import memory
from llmkit.training.trainer import StepTrainer

LINE = "batch: 32 rows per step, at most {} at once (train.max_tokens_per_pass)"


def make_rows(number: int = 40) -> Rows:
    reviews = make_reviews(number)
    columns = {name: [row[name] for row in reviews] for name in ("text", "label")}
    rows = build_rows(columns, "rows", range(number), row_numbered=True)
    return rows.with_column_mapping({"text": "text", "label": "label"})


def build_tiny_trainer(tiny: str, folder: Path, *keys: str, fast_path: str = "auto") -> StepTrainer:
    task, rows = Classify(), make_rows()
    task.fit(rows, {})
    torch.manual_seed(0)
    loaded: LoadedModel = load_model(resolve_model(tiny), task.head().auto_class, task.head().config)
    return make_tiny_trainer(
        task,
        loaded,
        rows,
        folder,
        "train.max_steps=3",
        "train.eval_strategy=no",
        "train.save_strategy=no",
        *keys,
        fast_path=fast_path,
    )


def train_and_flatten(trainer: StepTrainer) -> torch.Tensor:
    torch.manual_seed(1)
    trainer.train()
    weights: torch.Tensor = flatten_weights(trainer.model)
    return weights


@pytest.mark.slow
@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_measurement_changes_nothing_in_training(tiny: str, tmp_path: Path, fast_path: str) -> None:
    measured = build_tiny_trainer(tiny, tmp_path / "a", fast_path=fast_path)
    modes = [module.training for module in measured.model.modules()]
    state = torch.get_rng_state()
    memory.limit_pass_to_memory(measured)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in measured.model.modules()] == modes
    assert all(weight.grad is None for weight in measured.model.parameters())
    plain = build_tiny_trainer(tiny, tmp_path / "b", fast_path=fast_path)
    assert torch.equal(train_and_flatten(measured), train_and_flatten(plain))


@pytest.mark.slow
@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_measurement_repeats_exactly_and_predicts_larger_passes(tiny: str, tmp_path: Path, fast_path: str) -> None:
    trainer = build_tiny_trainer(tiny, tmp_path, fast_path=fast_path)
    first = memory.measure_pass_memory(trainer)
    assert memory.measure_pass_memory(trainer) == first
    row, collator = memory.find_longest_row(trainer), trainer.step_collator
    batch = collator.collate([row] * 16)
    with memory.replay_random_numbers(torch.device("cpu")), memory.train_mode(trainer), trainer.fast_path.enable():
        kept = memory.count_kept_bytes(trainer, batch)
    predicted = first.fixed + first.per_token * collator.count_sent_tokens(batch)
    assert predicted == pytest.approx(kept, rel=0.25)


@pytest.mark.slow
def test_kept_bytes_exclude_weights(tiny: str, tmp_path: Path) -> None:
    trainer = build_tiny_trainer(tiny, tmp_path, fast_path="off")
    weight = torch.nn.Parameter(torch.ones(1000, 8))

    def compute_loss(model: Any, batch: Any) -> torch.Tensor:
        hidden = batch["input_ids"].float()[:, :1].expand(-1, 1000) @ weight  # keeps the row twice: input and exp
        return hidden.exp().sum()

    trainer.compute_loss = compute_loss  # type: ignore[method-assign]
    trainer.model.register_parameter("extra", weight)
    batch = {"input_ids": torch.zeros(2, 3)}
    assert memory.count_kept_bytes(trainer, batch) == 2 * 3 * 0 + 2 * 8 * 4


@pytest.mark.slow
@pytest.mark.parametrize(("gib", "rows"), [(64, 32), (0.0001, 1)])
def test_limit_is_between_one_row_and_those_of_a_step(
    tiny: str, tmp_path: Path, gib: float, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory.machine, "measure_memory", lambda: (0, int(gib * 2**30)))
    trainer = build_tiny_trainer(tiny, tmp_path)
    before = trainer.step_collator.step_size
    memory.limit_pass_to_memory(trainer)
    size = trainer.step_collator.step_size
    assert (before.rows_at_once, size.rows_at_once, size.max_tokens) == (32, rows, rows * size.row_tokens)
    assert (size.rows_per_step, size.rows_per_process) == (32, 32)


@pytest.mark.slow
def test_more_memory_gives_more_tokens_and_the_same_update(
    tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits, weights, no_dropout = [], [], {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    for number, share in enumerate((2.0, 8.0, 1000.0)):
        trainer = build_tiny_trainer(tiny, tmp_path / str(number), "train.optim=sgd", "train.learning_rate=0.1")
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.model.config.update(no_dropout)
        used = memory.measure_pass_memory(trainer)
        needed = memory.count_model_bytes(trainer.model) + used.fixed + used.per_token * 64 * share
        total = int(needed / memory.PLANNED_SHARE)
        monkeypatch.setattr(memory.machine, "measure_memory", lambda total=total: (0, total))
        memory.limit_pass_to_memory(trainer)
        limits.append(trainer.step_collator.step_size.max_tokens)
        weights.append(train_and_flatten(trainer))
    assert limits[0] == pytest.approx(128, abs=1)
    assert limits[1] == pytest.approx(512, abs=1)
    assert limits[2] == 32 * 64
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=1e-6)


@pytest.mark.slow
def test_sharded_model_is_not_measured(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "measure_pass_memory", lambda _: pytest.fail("measured"))
    trainer = build_tiny_trainer(tiny, tmp_path, "train.batch_size=100")
    trainer.sharded = True
    memory.limit_pass_to_memory(trainer)
    assert trainer.step_collator.step_size.rows_at_once == memory.SHARDED_PASS_ROWS


@pytest.mark.slow
def test_row_that_does_not_fit_is_reported(tiny: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = build_tiny_trainer(tiny, tmp_path)
    monkeypatch.setattr(StepTrainer, "compute_loss", lambda *_: torch.empty(1 << 50))
    with pytest.raises(OutOfMemoryError) as caught:
        memory.limit_pass_to_memory(trainer)
    assert "tokens does not fit into memory; lower model.max_length, or choose a smaller model" in str(caught.value)


@pytest.mark.slow
def test_run_prints_the_size_of_a_step(
    tiny: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_jsonl("reviews.jsonl", make_reviews(60))
    keys = ("train.max_steps=1", "model.max_length=16", "eval.baselines=[]")
    flags: dict[str, Any] = {"task": "classify", "model": tiny, "train": data}
    llmkit.train(None, *keys, **flags, output_dir="ample")
    assert LINE.format("32 rows of 16 tokens") in capsys.readouterr().err.splitlines()
    monkeypatch.setattr(memory.machine, "measure_memory", lambda: (0, 2**19))
    llmkit.train(None, *keys, **flags, output_dir="scarce")
    assert LINE.format("1 row of 16 tokens") in capsys.readouterr().err.splitlines()
    # The recipe stays the same on every machine.
    recipes = [json.loads(Path(run, "run.json").read_text())["recipe_sha256"] for run in ("ample", "scarce")]
    assert recipes[0] == recipes[1]
    estimate = llmkit.dry_run(None, *keys, **flags)
    assert estimate.rows_per_step == 32
    assert LINE.format("1 row of 16 tokens") in capsys.readouterr().err.splitlines()
