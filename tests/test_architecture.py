"""The architecture page against the code: every file and function it names exists, and its journeys are walked."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llmkit"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
STEP = re.compile(r"^\d+\. `([\w/.]+)` `([\w.]+)`: \S", re.MULTILINE)
DECISION = re.compile(r"^\| ([^|]+\?) \| `([\w/.]+)` \| (`[^|]+`) \|$", re.MULTILINE)


def read_section(title: str) -> str:
    """The text below a heading, up to the next one."""
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def list_definitions(path: Path) -> set[str]:
    """Functions, classes, methods and fields of a module, by qualified name."""
    found = set()

    def visit(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + child.name)
                if isinstance(child, ast.ClassDef):
                    visit(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
                found.add(prefix + child.target.id)
            elif isinstance(child, ast.Assign):
                found.update(prefix + target.id for target in child.targets if isinstance(target, ast.Name))

    visit(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


def list_named_definitions() -> Iterator[tuple[str, str]]:
    """Each (file, qualified name) of the page."""
    yield from STEP.findall(PAGE)
    for _, file, names in DECISION.findall(PAGE):
        for name in re.findall(r"`([\w.]+)`", names):
            yield file, name


@pytest.mark.parametrize(("file", "name"), sorted(set(list_named_definitions())))
def test_named_definition_exists(file: str, name: str) -> None:
    assert name in list_definitions(ROOT / file)


def test_page_has_at_least_twenty_questions() -> None:
    for title, least in (("Where is it decided?", 20), ("Where do I add ...?", 4)):
        section = read_section(title)
        rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
        assert len(DECISION.findall(section)) == len(rows) >= least


def test_journeys_are_lists_of_files_and_functions() -> None:
    for title in ("Journey of a command", "Journey of a row", "Journey of `train.learning_rate`"):
        lines = re.findall(r"^\d+\. ", read_section(title), re.MULTILINE)
        assert len(STEP.findall(read_section(title))) == len(lines) >= 9


@pytest.fixture(scope="module")
def first_calls(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Functions of llmkit that a training command enters, as (file, qualified name) in the order of their first call."""
    from llmkit.cli import run_command_line
    from llmkit.testing import make_reviews, write_jsonl

    calls: dict[tuple[str, str], None] = {}

    def record(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(f"{PACKAGE}/"):
            calls.setdefault((str(Path(code.co_filename).relative_to(ROOT)), code.co_qualname))

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("journey"))
        data = write_jsonl("reviews.jsonl", make_reviews(60))
        command = ["finetune-classify", "--train", data, "--model", tiny, "--epochs", "1", "-o", "run"]
        before = sys.getprofile()
        sys.setprofile(record)
        try:
            # With a limit of a pass no pass is measured, which would call functions of a step before its first.
            code = run_command_line([*command, "train.learning_rate=1e-3", "train.max_tokens_per_pass=4096"])
        finally:
            sys.setprofile(before)
    assert code == 0
    return list(calls)


@pytest.mark.slow
@pytest.mark.parametrize("title", ["Journey of a command", "Journey of a row"])
def test_journey_is_walked_in_this_order(title: str, first_calls: list[tuple[str, str]]) -> None:
    steps = STEP.findall(read_section(title))
    assert [step for step in steps if step not in first_calls] == []
    assert sorted(steps, key=first_calls.index) == steps


@pytest.mark.slow
def test_learning_rate_passes_through_its_journey(first_calls: list[tuple[str, str]]) -> None:
    steps = [step for step in STEP.findall(read_section("Journey of `train.learning_rate`")) if step[1][0].islower()]
    skipped = {"load_lr_scheduler_state"}  # a resumed run alone restores a schedule
    assert [step for step in steps if step[1] not in skipped and step not in first_calls] == []


def list_modules() -> dict[str, Path]:
    """Module name to file."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def list_imports(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of llmkit that a file imports, at any depth."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {name if (name := f"{node.module}.{one.name}") in modules else node.module for one in node.names}
        elif isinstance(node, ast.Import):
            found |= {one.name for one in node.names}
    return found & set(modules)


def test_no_two_files_import_each_other() -> None:
    modules = list_modules()
    imports = {name: list_imports(path, modules) for name, path in modules.items()}
    del imports["llmkit"]  # loads the public functions on first use
    pairs = [(one, other) for one, names in imports.items() for other in names if one in imports.get(other, ())]
    assert pairs == []
