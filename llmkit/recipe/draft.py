"""Parsing of recipes: plain values from YAML and KEY=VALUE texts, with the origin of each for error messages."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from llmkit.errors import RecipeError

KeyPath = tuple[str, ...]  # a dotted key, split at its dots
# Types of unquoted words: only the core schema of YAML 1.2, so that dates and 1_000 stay text.
YAML_SCALARS = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda word: word.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda word: int(word, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda word: int(word, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda word: float(word.replace(".", ""))),
)
SEPARATOR_VALUE = re.compile(r"\t| *[,;|/:>^?-]+ *")  # a separator of cells or labels that is also YAML syntax


@dataclass
class RecipeDraft:
    """The values given so far, and the origin of each: `x.yaml:9`, `--model`, or `command line`."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    name: str = "command line"

    def get_origin(self, path: KeyPath) -> str:
        """Return the origin of the value at `path`, or of the nearest section around it."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.name)

    def set_value(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set a dotted key; a section on its path that is not a mapping is replaced."""
        section = self.values
        for key in path[:-1]:
            if not isinstance(section.get(key), dict):
                section[key] = {}
            section = section[key]
        section[path[-1]] = value
        self.origins = {p: o for p, o in self.origins.items() if p[: len(path)] != path} | {path: origin}


def read_draft(path: Path) -> RecipeDraft:
    """Read the values of a YAML file and their lines. YAML 1.2, data only: no tags, no aliases, no repeated keys."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{path}: {error.strerror}", "name a readable file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise RecipeError(f"{path}:{line}: not UTF-8", "save the recipe as UTF-8") from None
    tree = compose_yaml(text, str(path))
    draft = RecipeDraft(name=str(path))
    values = None if tree is None else convert_node(tree, (), draft.origins, str(path))
    if values is None:
        raise RecipeError(f"{path}: the file holds no keys", "write at least task: and data:")
    if not isinstance(values, dict):
        raise RecipeError(f"{path}:1: a recipe is a mapping of keys", "write key: value lines")
    draft.values = values
    return draft


def parse_override(text: str) -> tuple[KeyPath, Any]:
    """Parse `train.learning_rate=3e-5` to (("train", "learning_rate"), 3e-5); the value follows the YAML rules.

    A separator, such as `,` or ` | `, is taken literally: a shell removes the quotes that YAML needs around it.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path):
        raise RecipeError(f"command line: '{text}' is not KEY=VALUE", "write for example train.learning_rate=3e-5")
    if SEPARATOR_VALUE.fullmatch(value):
        return path, value
    try:
        tree = compose_yaml(value, "")
        # YAML would drop a comment, or a part of a block after | or >, from the typed value.
        end = 0 if tree is None or getattr(tree, "style", None) in ("|", ">") else tree.end_mark.index
        is_complete = not value[end:].strip()
        parsed = convert_node(tree, path, {}, "") if tree is not None else None
    except RecipeError:
        is_complete, parsed = False, None
    if not is_complete:
        raise RecipeError(f"command line: {key}: the value '{value}' is not YAML", "quote it")
    return path, parsed


def compose_yaml(text: str, name: str) -> Any:
    """Parse `text` to a tree of YAML nodes, None if it has none. Raises RecipeError with `name` and the line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        for event in YAML(pure=True).parse(StringIO(text)):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise RecipeError(f"{name}:{event.start_mark.line + 1}: a recipe is plain data", "no tags, no aliases")
        return YAML(pure=True).compose(StringIO(text))
    except ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise RecipeError(f"{name}:{line}: a control character", "write it as an escape in double quotes") from None
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        problem = " ".join(f"{error.context or ''} {error.problem or ''}".split())
        raise RecipeError(f"{name}:{line}: {problem}", "fix the YAML") from None
    except YAMLError as error:
        raise RecipeError(f"{name}: {' '.join(str(error).split())}", "fix the YAML") from None
    except RecursionError:
        raise RecipeError(f"{name}: nested too deeply", "a recipe has only a few levels") from None


def convert_node(node: Any, path: KeyPath, origins: dict[KeyPath, str], name: str) -> Any:
    """Convert a node to plain Python types, keys as they are spelled; adds the origin of every key to `origins`."""
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if isinstance(node, SequenceNode):
        return [convert_node(one, path, origins, name) for one in node.value]
    if isinstance(node, ScalarNode):
        return convert_scalar(node, name)
    assert isinstance(node, MappingNode)
    values: dict[str, Any] = {}
    for key, value in node.value:
        origin = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, ScalarNode):
            raise RecipeError(f"{origin}: a key is one word", "write key: value lines")
        inner = (*path, key.value)
        if key.value in values:
            raise RecipeError(f"{origin}: {'.'.join(inner)}: the key is also at {origins[inner]}", "keep one of them")
        origins[inner] = origin
        values[key.value] = convert_node(value, inner, origins, name)
    return values


def convert_scalar(node: Any, name: str) -> Any:
    """Convert a YAML scalar: to null, true or false, a number, or else its text."""
    if node.style is None:
        for pattern, value in YAML_SCALARS:
            if pattern.fullmatch(node.value):
                try:
                    return value(node.value)
                except ValueError:  # Python reads numbers of up to 4,300 digits
                    what = f"{name}:{node.start_mark.line + 1}: a number of {len(node.value):,} digits"
                    raise RecipeError(what, "write a shorter number") from None
    return node.value
