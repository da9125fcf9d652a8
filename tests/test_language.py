"""The project's language: no words of the old dialect, no public name twice, no crowded folder, no undescribed test file.

The glossary for contributors is in CONTRIBUTING.md.
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llmkit"
MAX_ENTRIES = 14  # modules and rooms of a folder; a fuller one is missing a room
# Each word that is refused, also as a part of snake_case and CamelCase names, and what to write.
BANNED_WORDS = {
    **dict.fromkeys(("said", "say", "says", "saying"), "print, report or state"),
    **dict.fromkeys(("tell", "tells", "told", "telling"), "report, show or pass"),
    **dict.fromkeys(("hear", "hears", "heard", "hearing"), "receive"),
    **dict.fromkeys(("speak", "speaks", "spoke", "spoken", "speaking"), "print or report"),
    **dict.fromkeys(("mend", "mends", "mended", "mending"), "fix"),
    **dict.fromkeys(("chance", "chances"), "random state, probability"),
    **dict.fromkeys(("answer", "answers", "answered", "answering"), "prediction, reply"),
    **dict.fromkeys(("judge", "judges", "judged", "judging"), "score, evaluate"),
    **dict.fromkeys(("truth", "truths"), "reference"),
    **dict.fromkeys(("prove", "proves", "proved", "proving"), "verify, show"),
    **dict.fromkeys(("quarrel", "quarrels"), "conflict"),
    **dict.fromkeys(("rehearse", "rehearsed", "rehearsal"), "dry run"),
    **dict.fromkeys(("lasting", "keeper"), "checkpoint, resumable"),
    **dict.fromkeys(("mould", "moulds"), "unsharded model"),
    "beats": "heartbeat",
    "deaf": "ignore signals",
    "polar": "sentiment",
}
BANNED_PHRASES = {
    **dict.fromkeys(("put back", "puts back", "putting back"), "restore"),
    **dict.fromkeys(("go on", "goes on", "going on", "went on", "gone on"), "resume, continue"),
    **dict.fromkeys(("taken up", "takes up"), "resume"),
    **dict.fromkeys(("held back", "holds back", "hold back", "holding back"), "hold out, holdout"),
    "small matrices": "LoRA adapter",
    "in shares": "sharded",
    **dict.fromkeys(("fresh weight", "fresh weights", "fresh head", "fresh model"), "newly initialized, from scratch"),
}
REPLACEMENTS = BANNED_WORDS | BANNED_PHRASES
# Files whose subject has one of these words: path to words.
EXEMPT: dict[str, frozenset[str]] = {
    "CHANGELOG.md": frozenset({"answer"}),  # the old key of predictions.jsonl
    "tests/test_language.py": frozenset({*BANNED_WORDS, *BANNED_PHRASES}),
}
TEXT_FILES = (".py", ".md", ".yaml", ".yml", ".toml", ".txt", "")
WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
PHRASE = re.compile(
    r"\b(" + "|".join(phrase.replace(" ", r"[\s#*]+") for phrase in BANNED_PHRASES) + r")\b", re.IGNORECASE
)


def list_text_files(root: str) -> list[Path]:
    """The written files of a folder of the project; of `.` those at the top, under requirements/ and .github/."""
    folders = [ROOT / name for name in (("requirements", ".github") if root == "." else (root,))]
    found = [path for folder in folders for path in folder.rglob("*") if path.is_file() and path.suffix in TEXT_FILES]
    if root == ".":
        found += [
            ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml")
        ]
    return sorted(path for path in found if "__pycache__" not in path.parts)


def find_banned_words(text: str, is_glossary: bool = False) -> Iterator[tuple[int, str]]:
    """(line, word) of each banned word and phrase; in a glossary the last column of a table may name them."""
    if is_glossary:
        text = re.sub(r"^(\|.*\|)[^|\n]*\|$", r"\1", text, flags=re.MULTILINE)
    for number, line in enumerate(text.splitlines(), start=1):
        yield from ((number, word) for word in WORD.findall(line) if word.lower() in BANNED_WORDS)
    for match in PHRASE.finditer(text):
        yield text.count("\n", 0, match.start()) + 1, " ".join(re.findall(r"\w+", match[1]))


@pytest.mark.parametrize("root", ["llmkit", "tests", "docs", "recipes", "benchmarks", "."])
def test_files_use_the_words_of_the_field(root: str) -> None:
    wrong = []
    for path in list_text_files(root):
        name = str(path.relative_to(ROOT))
        for line, word in find_banned_words(path.read_text(encoding="utf-8"), is_glossary=name == "CONTRIBUTING.md"):
            if word.lower() not in EXEMPT.get(name, ()):
                wrong.append(f"{name}:{line}: '{word}'; write {REPLACEMENTS[word.lower()]}")
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a word that was said", [(1, "said")]),
        ("x = is_told_of(y)", [(1, "told")]),
        ("class LastingTrainer:", [(1, "Lasting")]),
        ("fine\nheld\nback", [(2, "held back")]),
        ("rows are held\n    # back", [(1, "held back")]),
        ("the run goes on", [(1, "goes on")]),
        ("mending improves truthful essays", [(1, "mending")]),
        ("| fix | hint | mend |", [(1, "mend")]),
    ],
)
def test_banned_words_are_found_in_names_and_across_lines(text: str, found: list[tuple[int, str]]) -> None:
    assert list(find_banned_words(text)) == found


def test_glossary_may_name_the_words_it_replaces() -> None:
    row = "| how to repair a mistake | fix | mend |"
    assert list(find_banned_words(row, is_glossary=True)) == []
    assert list(find_banned_words("| mend | fix | hint |", is_glossary=True)) == [(1, "mend")]


def list_public_names(path: Path) -> Iterator[str]:
    """Public functions, classes, constants and type aliases at the top level of a module."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names: list[str] = []
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [one.id for target in node.targets for one in ast.walk(target) if isinstance(one, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            names = [node.target.id]
        yield from (name for name in names if not name.startswith("_"))


def test_public_name_is_defined_once() -> None:
    modules = defaultdict(set)
    for path in sorted(PACKAGE.rglob("*.py")):
        for name in list_public_names(path):
            modules[name].add(str(path.relative_to(ROOT)))
    assert {name: sorted(paths) for name, paths in modules.items() if len(paths) > 1} == {}


def test_folder_has_at_most_fourteen_entries() -> None:
    crowded = {}
    for folder in (path.parent for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE):
        entries = [path.name for path in folder.iterdir() if path.name not in ("__init__.py", "__pycache__")]
        if len(entries) > MAX_ENTRIES:
            crowded[str(folder.relative_to(ROOT))] = sorted(entries)
    assert crowded == {}


def test_every_test_file_has_a_docstring() -> None:
    docstrings = {
        str(path.relative_to(ROOT)): ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
    }
    assert [name for name, text in docstrings.items() if not re.match(r"\S.*[.]", " ".join(text.split()))] == []
