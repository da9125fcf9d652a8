"""The kinds of metric names."""

from __future__ import annotations

import pytest

from llmkit.recipe.metric_names import get_metric_kind, list_metric_files, split_foreign_metrics


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("accuracy", "own"),
        ("evaluate:bleu", "evaluate"),
        ("evaluate:./mine.py", "evaluate"),
        ("./mine.py", "file"),
        ("mine.py", "file"),
    ],
)
def test_a_name_has_one_kind(name: str, kind: str) -> None:
    assert get_metric_kind(name) == kind


def test_names_are_split_in_their_order() -> None:
    names = ["./b.py", "f1", "evaluate:x", "accuracy", "a.py"]
    assert split_foreign_metrics(names) == (["f1", "accuracy"], ["./b.py", "evaluate:x", "a.py"])
    assert list_metric_files(names) == ["./b.py", "a.py"]
