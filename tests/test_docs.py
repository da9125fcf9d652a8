"""Tests of the documentation pages: generated pages match the code, and links and paths exist."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
GENERATED = ["architecture.md", "commands.md", "recipe.md", "metrics.md"]
LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
ANCHOR = re.compile(r"\]\(([\w./-]*)#([\w-]+)\)")
PATH = re.compile(r"`((?:llmkit|recipes|benchmarks|tests|docs|requirements)/[\w./-]*)`")
TARGET = re.compile(r"(?:`|^    )make ([a-z][a-z-]*)", re.MULTILINE)


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("llmkit_docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_generated_pages_match_the_code(generate: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert (generate.main(["--check"]), capsys.readouterr().err) == (0, "")


@pytest.mark.slow
def test_a_difference_is_reported_with_its_line(
    generate: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert generate.main([], tmp_path) == 0
    assert sorted(path.name for path in tmp_path.glob("*.md")) == sorted(GENERATED)
    (tmp_path / "metrics.md").unlink()
    page = tmp_path / "recipe.md"
    lines = page.read_text(encoding="utf-8").split("\n")
    page.write_text("\n".join([*lines[:2], "# A recipe", *lines[3:]]), encoding="utf-8")
    assert generate.main(["--check"], tmp_path) == 1
    printed = capsys.readouterr().err
    message = "differs from the code; fix it with make docs"
    assert printed.startswith(
        f"{page}:3: {message}\n  file: # A recipe\n  code: # The recipe\n{tmp_path / 'metrics.md'}:1: {message}\n"
    )


@pytest.mark.slow
def test_generated_pages_do_not_depend_on_the_terminal(generate: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    before = generate.build_commands_page()
    for name, value in {"COLUMNS": "200", "FORCE_COLOR": "1", "TERM": "xterm-256color"}.items():
        monkeypatch.setenv(name, value)
    assert generate.build_commands_page() == before


@pytest.mark.slow
def test_every_key_and_every_option_is_in_the_reference(generate: ModuleType) -> None:
    from llmkit.recipe.validation_messages import list_dotted_keys
    from llmkit.schema import Recipe
    from llmkit.tasks.classify import ClassifyOptions
    from llmkit.tasks.mlm import MlmOptions
    from llmkit.tasks.sentiment import SentimentOptions

    recipe, commands = generate.build_recipe_page(), generate.build_commands_page()
    keys = [*list_dotted_keys(Recipe), *(f"classify.{name}" for name in ClassifyOptions.model_fields)]
    keys += [f"mlm.{name}" for name in MlmOptions.model_fields]
    keys += [f"sentiment.{name}" for name in SentimentOptions.model_fields]
    assert [key for key in keys if f"| `{key}` |" not in recipe] == []
    headings = re.findall(r"^## (llmkit.*)$", commands, re.MULTILINE)
    assert headings == ["llmkit", *(f"llmkit {words}" for words in (
        "pretrain-mlm", "finetune-classify", "finetune-sentiment", "finetune-summarize", "finetune-translate", "train",
        "eval", "predict", "doctor", "recipes", "recipes list", "recipes show", "recipes copy", "tokenizer",
        "tokenizer train", "tokenizer report", "data", "data clean", "launch", "launch slurm",
    ))]  # fmt: skip


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (int | None, "whole number"),
        (list[str], "list of texts"),
        (dict[str, float], "mapping to number"),
        (bool, "true or false"),
        (str | list[str], "text or list of texts"),
    ],
)
def test_types_are_described_in_words(generate: ModuleType, annotation: object, words: str) -> None:
    assert generate.describe_type(annotation) == words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_of_a_page_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [link for link in LINK.findall(text) if "://" not in link]
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert [path for path in PATH.findall(text) if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_make_targets_of_a_page_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    assert set(TARGET.findall(page.read_text(encoding="utf-8"))) <= targets


def test_every_page_is_linked() -> None:
    linked = {
        (page.parent / link).resolve() for page in PAGES for link in LINK.findall(page.read_text(encoding="utf-8"))
    }
    assert [page.name for page in PAGES[1:] if page not in linked] == []


def test_the_readme_lists_every_package() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").split("## What is where")[1]
    packages = [path.parent.name for path in (ROOT / "llmkit").glob("*/__init__.py")]
    assert [package for package in packages if f"  {package}/ " not in tree] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_headings_that_a_page_links_to_exist(page: Path) -> None:
    missing = []
    for link, anchor in ANCHOR.findall(page.read_text(encoding="utf-8")):
        target = (page.parent / link) if link else page
        headings = re.findall(r"^#+ (.*)$", target.read_text(encoding="utf-8"), re.MULTILINE)
        if anchor not in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}:
            missing.append(f"{link}#{anchor}")
    assert missing == []


def test_the_readme_has_at_most_250_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 250
