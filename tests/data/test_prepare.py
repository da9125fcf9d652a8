"""Tests of the preparation of splits from the data section of a recipe."""

from __future__ import annotations

import pytest

from llmkit import tasks
from llmkit.data.prepare import read_splits
from llmkit.recipe.load import load_recipe
from llmkit.schema import DataSection, SplitSection
from llmkit.tasks.classify import Classify
from llmkit.testing import make_reviews, write_jsonl


@pytest.mark.parametrize(
    ("given", "split", "expected"),
    [
        (("test",), {"test": 0.2}, ["data.split.test=0.2 has no effect because data.test is set"]),
        (("validation",), {"test": 0.2}, ["data.split.test=0.2 has no effect because data.validation is set"]),
        (
            ("validation",),
            {"validation": 0.3},
            ["data.split.validation=0.3 has no effect because data.validation is set"],
        ),
        (("test",), {"validation": 0.3, "test": 0.1}, []),
        (("test",), {"test": 0.0}, []),
        ((), {"test": 0.2, "validation": 0.2}, []),
    ],
)
def test_split_fraction_without_effect_is_reported(
    given: tuple[str, ...], split: dict[str, float], expected: list[str]
) -> None:
    train = write_jsonl("train.jsonl", make_reviews(40))
    files = {name: write_jsonl(f"{name}.jsonl", make_reviews(10, seed=3)) for name in given}
    notes = read_splits(DataSection(train=train, split=SplitSection(**split), **files), Classify()).notes
    assert [note for note in notes if "no effect" in note] == expected


@pytest.mark.parametrize(
    ("key", "task", "note"),
    [
        (
            "data.on_leak=error",
            "mlm",
            ["data.on_leak=error has no effect: equal documents of a corpus do not count as leaks"],
        ),
        ("data.on_leak=report", "mlm", []),
        (
            "data.document_unit=file",
            "classify",
            ["data.document_unit=file has no effect: the task does not read a corpus"],
        ),
        ("data.document_unit=line", "classify", []),
        ("data.on_leak=ignore", "classify", []),
    ],
)
def test_key_without_effect_for_the_task_is_reported(key: str, task: str, note: list[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    recipe = load_recipe(None, ["data.train=rows.jsonl", key], task=task)
    assert [one for one in read_splits(recipe.data, tasks.load_task(task)()).notes if "no effect" in one] == note
