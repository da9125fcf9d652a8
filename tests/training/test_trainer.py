"""A trainer that is used again: what one training puts around the model, the next one finds as new."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmkit.data.rows import build
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve
from llmkit.recipe.load import load_recipe
from llmkit.tasks.classify import Classify
from llmkit.testing import reviews
from llmkit.training.arguments import training_arguments
from llmkit.training.trainer import StepTrainer

KEYS = ["train.max_steps=2", "train.eval_strategy=no", "train.save_strategy=no"]


@pytest.mark.parametrize("shortcuts", ["auto", "off"])
def test_every_training_of_a_bf16_trainer_is_under_autocast(tiny: str, tmp_path: Path, shortcuts: str) -> None:
    made = reviews(20)
    columns = {name: [row[name] for row in made] for name in ("text", "label")}
    rows = build(columns, "rows", range(20), by_row=True).rename({"text": "text", "label": "label"})
    task = Classify()
    task.fit(rows, {})
    loaded = load_model(resolve(tiny), "AutoModelForSequenceClassification", task.model().config)
    trainer = StepTrainer(
        loaded.model,
        training_arguments(load_recipe(None, KEYS, task="classify"), tmp_path, "bf16", "accuracy"),
        task=task,
        tokenizer=loaded.tokenizer,
        train=task.encode(rows, loaded.tokenizer, 32).features,
        validation=[],
        references=[],
        metrics=["accuracy"],
        rows_at_once=8,
        max_length=32,
        shortcuts=shortcuts,
    )
    under: list[bool] = []
    loaded.model.classifier.register_forward_pre_hook(lambda *_: under.append(torch.is_autocast_enabled("cpu")))
    for times in (1, 2):
        trainer.train()
        assert under == [True] * len(under)
        assert len(under) >= 2 * times
    loaded.model(**trainer.cutter.collate(trainer.train_dataset.features[:2]))
    assert under[-1] is False
