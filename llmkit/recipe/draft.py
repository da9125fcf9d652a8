"""A recipe as it was given: plain values from YAML and KEY=VALUE, and the place that each came from."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from llmkit.errors import RecipeError

KeyPath = tuple[str, ...]  # a dotted key, cut at its dots
# What an unquoted word is: the core schema of YAML 1.2 and nothing else, so that dates and 1_000 stay text.
YAML_SCALARS = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE|false|False|FALSE"), lambda word: word.lower() == "true"),
    (re.compile(r"[-+]?[0-9]+"), int),
    (re.compile(r"0o[0-7]+"), lambda word: int(word, 8)),
    (re.compile(r"0x[0-9a-fA-F]+"), lambda word: int(word, 16)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda word: float(word.replace(".", ""))),
)
SEPARATOR_VALUE = re.compile(r"\t| *[,;|/:>^?-]+ *")  # what parts two cells or labels, and is YAML's own too


@dataclass
class RecipeDraft:
    """The values as given so far, and where each came from: `x.yaml:9`, `--model`, or `command line`."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[KeyPath, str] = field(default_factory=dict)
    name: str = "command line"

    def get_origin(self, path: KeyPath) -> str:
        """Where the value at `path`, or the nearest section around it, was given."""
        while path and path not in self.origins:
            path = path[:-1]
        return self.origins.get(path, self.name)

    def set_value(self, path: KeyPath, value: Any, origin: str) -> None:
        """Set a dotted key; a section on the way that is no mapping is replaced."""
        place = self.values
        for word in path[:-1]:
            if not isinstance(place.get(word), dict):
                place[word] = {}
            place = place[word]
        place[path[-1]] = value
        self.origins = {p: o for p, o in self.origins.items() if p[: len(path)] != path} | {path: origin}


def read_draft(path: Path) -> RecipeDraft:
    """The values of a YAML file with the line of each. YAML 1.2, data only: no tags, no aliases, no repeated keys."""
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise RecipeError(f"{path}: {fault.strerror}", "name a readable file") from None
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = data.count(b"\n", 0, fault.start) + 1
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
    """`train.learning_rate=3e-5` as (("train", "learning_rate"), 3e-5); the value follows the YAML rules.

    A separator, such as `,` or ` | `, is itself: a shell takes the quotes away that YAML wants around it.
    """
    key, equals, value = text.partition("=")
    path = tuple(key.split("."))
    if not equals or not all(path):
        raise RecipeError(f"command line: '{text}' is no KEY=VALUE", "write for example train.learning_rate=3e-5")
    if SEPARATOR_VALUE.fullmatch(value):
        return path, value
    try:
        tree = compose_yaml(value, "")
        # A comment, or a block after | or >, would take away from what was typed.
        end = 0 if tree is None or getattr(tree, "style", None) in ("|", ">") else tree.end_mark.index
        whole = not value[end:].strip()
        given = convert_node(tree, path, {}, "") if tree is not None else None
    except RecipeError:
        whole, given = False, None
    if not whole:
        raise RecipeError(f"command line: {key}: the value '{value}' is no YAML", "quote it")
    return path, given


def compose_yaml(text: str, name: str) -> Any:
    """The tree of YAML nodes in `text`, None where there is none. Raises RecipeError with `name` and the line."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError
    from ruamel.yaml.reader import ReaderError

    try:
        for event in YAML(pure=True).parse(StringIO(text)):
            if getattr(event, "anchor", None) or getattr(event, "tag", None):
                raise RecipeError(f"{name}:{event.start_mark.line + 1}: a recipe is plain data", "no tags, no aliases")
        return YAML(pure=True).compose(StringIO(text))
    except ReaderError as fault:
        line = text.count("\n", 0, fault.position) + 1
        raise RecipeError(f"{name}:{line}: a control character", "write it as an escape in double quotes") from None
    except MarkedYAMLError as fault:
        line = fault.problem_mark.line + 1 if fault.problem_mark else 1
        said = " ".join(f"{fault.context or ''} {fault.problem or ''}".split())
        raise RecipeError(f"{name}:{line}: {said}", "mend the YAML") from None
    except YAMLError as fault:
        raise RecipeError(f"{name}: {' '.join(str(fault).split())}", "mend the YAML") from None
    except RecursionError:
        raise RecipeError(f"{name}: nested too deep", "a recipe is a few levels deep") from None


def convert_node(node: Any, path: KeyPath, origins: dict[KeyPath, str], name: str) -> Any:
    """`node` in plain Python types, keys as they are spelled; the place of every key goes into `origins`."""
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if isinstance(node, SequenceNode):
        return [convert_node(one, path, origins, name) for one in node.value]
    if isinstance(node, ScalarNode):
        return convert_scalar(node, name)
    assert isinstance(node, MappingNode)
    values: dict[str, Any] = {}
    for key, value in node.value:
        here = f"{name}:{key.start_mark.line + 1}"
        if not isinstance(key, ScalarNode):
            raise RecipeError(f"{here}: a key is one word", "write key: value lines")
        place = (*path, key.value)
        if key.value in values:
            raise RecipeError(f"{here}: {'.'.join(place)}: the key stands at {origins[place]} too", "keep one of them")
        origins[place] = here
        values[key.value] = convert_node(value, place, origins, name)
    return values


def convert_scalar(node: Any, name: str) -> Any:
    """What a word of YAML stands for: null, true or false, a number, or else its text."""
    if node.style is None:
        for pattern, value in YAML_SCALARS:
            if pattern.fullmatch(node.value):
                try:
                    return value(node.value)
                except ValueError:  # Python reads numbers of up to 4,300 digits
                    where = f"{name}:{node.start_mark.line + 1}"
                    raise RecipeError(f"{where}: a number of {len(node.value):,} digits", "write it shorter") from None
    return node.value
