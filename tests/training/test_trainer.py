"""Tests that a trainer can be used repeatedly: each training wraps the model anew."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from llmkit.data.rows import build_rows
from llmkit.models.load import load_model
from llmkit.models.sources.model_ref import resolve_model
from llmkit.tasks.classify import Classify
from llmkit.testing import make_reviews, make_tiny_trainer

pytestmark = pytest.mark.slow

KEYS = ["train.max_steps=2", "train.eval_strategy=no", "train.save_strategy=no"]


@pytest.mark.parametrize("fast_path", ["auto", "off"])
def test_repeated_bf16_training_uses_autocast(tiny: str, tmp_path: Path, fast_path: str) -> None:
    reviews = make_reviews(20)
    columns = {name: [row[name] for row in reviews] for name in ("text", "label")}
    rows = build_rows(columns, "rows", range(20), row_numbered=True).with_column_mapping(
        {"text": "text", "label": "label"}
    )
    task = Classify()
    task.fit(rows, {})
    loaded = load_model(resolve_model(tiny), "AutoModelForSequenceClassification", task.head().config)
    trainer = make_tiny_trainer(
        task, loaded, rows, tmp_path, *KEYS, max_length=32, precision="bf16", fast_path=fast_path
    )
    autocast: list[bool] = []
    loaded.model.classifier.register_forward_pre_hook(lambda *_: autocast.append(torch.is_autocast_enabled("cpu")))
    for times in (1, 2):
        trainer.train()
        assert autocast == [True] * len(autocast)
        assert len(autocast) >= 2 * times
    loaded.model(**trainer.step_collator.collate(trainer.train_dataset.features[:2]))
    assert autocast[-1] is False
