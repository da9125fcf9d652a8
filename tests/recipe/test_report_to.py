"""Tests of `train.hf.report_to`: installed trackers, or `none` or `all`."""

from __future__ import annotations

from typing import Any

import pytest

from llmkit.errors import RecipeError
from llmkit.recipe import report_to

KNOWN = ", ".join(sorted(report_to.TRACKER_PACKAGES))


@pytest.fixture(autouse=True)
def only_tensorboard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report_to, "find_spec", lambda name: name == "tensorboardX" or None)


@pytest.mark.parametrize("given", ["none", ["none"], "all", ["all"], [], "tensorboard", ["tensorboard"]])
def test_values_that_the_trainer_accepts_are_valid(given: Any) -> None:
    report_to.check_trackers(given)


@pytest.mark.parametrize(
    ("given", "sentences"),
    [
        ("wandb", ["wandb is not installed; pip install wandb"]),
        (["tensorboard", "mlflow", "dagshub"], ["mlflow is not installed; pip install mlflow",
                                                "dagshub is not installed; pip install dagshub mlflow"]),
        ("tensorbord", ["no tracker 'tensorbord'; did you mean 'tensorboard'?"]),
        (["mlflow", "foo", "foo"], ["mlflow is not installed; pip install mlflow", f"no tracker 'foo'; known: {KNOWN}"]),
        (["none", "x"], ["'none' excludes other trackers; leave it out, or all others", f"no tracker 'x'; known: {KNOWN}"]),
        (["tensorboard", "all"], ["'all' excludes other trackers; leave it out, or all others"]),
        (5, [f"no tracker 5; known: {KNOWN}"]),
        (None, [f"no tracker null; known: {KNOWN}"]),
        ([{"a": 1}], [f"no tracker {{'a': 1}}; known: {KNOWN}"]),
    ],
)  # fmt: skip
def test_all_mistakes_are_reported_at_once(given: Any, sentences: list[str]) -> None:
    with pytest.raises(RecipeError) as fault:
        report_to.check_trackers(given)
    assert str(fault.value) == "\nerror: ".join(f"train.hf.report_to: {one}" for one in sentences)
