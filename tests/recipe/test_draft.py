"""Tests of recipe parsing: YAML 1.2 values, origins of keys, and syntax errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import RecipeError, sanitize_text
from llmkit.recipe.draft import RecipeDraft, parse_override, read_draft


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("2e-5", 2e-5),
        ("1e5", 1e5),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("012", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("+3", 3),
        ("true", True),
        ("TRUE", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("'3'", "3"),
        ('"true"', "true"),
        ("1_000", "1_000"),
        ("2026-01-02", "2026-01-02"),
        ("2026-01-02 10:00:00", "2026-01-02 10:00:00"),
        ("1:30", "1:30"),
        ("0b11", "0b11"),
        ("NaN", "NaN"),
        ("[no, yes, 1]", ["no", "yes", 1]),
        ("{no: 1, 01: 2, true: 3, 1e5: 4}", {"no": 1, "01": 2, "true": 3, "1e5": 4}),
    ],
)
def test_scalars_follow_yaml_1_2(word: str, value: Any) -> None:
    Path("r.yaml").write_text(f"key: {word}\n")
    given = read_draft(Path("r.yaml")).values["key"]
    assert (type(given), given) == (type(value), value)
    given = parse_override(f"a.b={word}")
    assert given == (("a", "b"), value)
    assert type(given[1]) is type(value)


def test_nan_is_a_number() -> None:
    assert math.isnan(parse_override("a=.nan")[1])


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_every_key_has_its_line(newline: str, mark: bytes) -> None:
    text = newline.join(["# head", "", "task: classify", "train:", "  seed: 1", "  hf: {a: 1,", "    b: 2}", ""])
    Path("r.yaml").write_bytes(mark + text.encode())
    draft = read_draft(Path("r.yaml"))
    assert draft.values == {"task": "classify", "train": {"seed": 1, "hf": {"a": 1, "b": 2}}}
    assert draft.get_origin(("task",)) == "r.yaml:3"
    assert draft.get_origin(("train", "seed")) == "r.yaml:5"
    assert draft.get_origin(("train", "hf", "b")) == "r.yaml:7"
    assert draft.get_origin(("train", "absent")) == "r.yaml:4"
    assert draft.get_origin(("absent",)) == "r.yaml"


def test_set_value_replaces_a_value_and_its_origins() -> None:
    draft = RecipeDraft({"a": {"b": 1}, "c": 2}, {("a",): "r:1", ("a", "b"): "r:2"}, "r")
    draft.set_value(("a",), {"d": 3}, "command line")
    draft.set_value(("c", "e"), 4, "--flag")
    assert draft.values == {"a": {"d": 3}, "c": {"e": 4}}
    assert draft.get_origin(("a", "b")) == "command line"
    assert draft.get_origin(("c", "e")) == "--flag"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "r.yaml: the file holds no keys; write at least task: and data:"),
        ("# only this\n", "r.yaml: the file holds no keys; write at least task: and data:"),
        ("- a\n- b\n", "r.yaml:1: a recipe is a mapping of keys; write key: value lines"),
        ("word\n", "r.yaml:1: a recipe is a mapping of keys; write key: value lines"),
        ("a: 1\nb: 2\na: 3\n", "r.yaml:3: a: the key is also at r.yaml:1; keep one of them"),
        ("train:\n  seed: 1\n  seed: 1\n", "r.yaml:3: train.seed: the key is also at r.yaml:2; keep one of them"),
        ("a: {1: x, '1': y}\n", "r.yaml:1: a.1: the key is also at r.yaml:1; keep one of them"),
        ("a: 1\nb: !!python/object:os.system x\n", "r.yaml:2: a recipe is plain data; no tags, no aliases"),
        ("a: 1\nb: !!str 3\n", "r.yaml:2: a recipe is plain data; no tags, no aliases"),
        ("a: &x {b: 1}\nc: *x\n", "r.yaml:1: a recipe is plain data; no tags, no aliases"),
        ("a: 1\nc: *x\n", "r.yaml:2: a recipe is plain data; no tags, no aliases"),
        ("a: 1\n? [b, c]\n: 2\n", "r.yaml:2: a key is one word; write key: value lines"),
        ("a: 1\nb: [1\n", "r.yaml:3: while parsing a flow sequence expected ',' or ']', but got '<stream end>'; fix the YAML"),
        ("a:\n\tb: 1\n", "r.yaml:2: while scanning for the next token found character '\\t' that cannot start any token; fix the YAML"),
        ("a: b: c\n", "r.yaml:1: mapping values are not allowed here; fix the YAML"),
        ("a: 1\n---\nb: 2\n", "r.yaml:2: expected a single document in the stream but found another document; fix the YAML"),
        ("a: 1\nb: \0\n", "r.yaml:2: a control character; write it as an escape in double quotes"),
        (f"a: 1\nb: {'9' * 5000}\n", "r.yaml:2: a number of 5,000 digits; write a shorter number"),
        ("[" * 500 + "]" * 500, "r.yaml: nested too deeply; a recipe has only a few levels"),
        (b"a: 1\nb: caf\xe9\n", "r.yaml:2: not UTF-8; save the recipe as UTF-8"),
        ("a: 1\n".encode("utf-16"), "r.yaml:1: not UTF-8; save the recipe as UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_a_recipe_is_an_error_with_its_line(
    text: str | bytes, sentence: str, refusal: Callable[..., str]
) -> None:
    assert refusal(text) == sentence


@pytest.mark.parametrize("text", ["train.seed", "=3", ".a=3", "a..b=3", "a.=3", ""])
def test_an_override_without_key_or_value_is_an_error(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_override(text)
    assert str(caught.value) == f"command line: '{text}' is not KEY=VALUE; write for example train.learning_rate=3e-5"


@pytest.mark.parametrize(
    "value", ["[1", "'a", "#", "a #b", "> a", "@x", "!!str 3", "*x", "{a: 1, a: 2}", "\0", "a: b: c"]
)
def test_an_override_that_yaml_would_truncate_needs_quotes(value: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_override(f"data.delimiter={value}")
    assert (
        str(caught.value) == f"command line: data.delimiter: the value '{sanitize_text(value)}' is not YAML; quote it"
    )


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("data.delimiter='#'", "#"),
        ("data.train=a=b.csv", "a=b.csv"),
        ("data.train={good: g.txt, bad: b.txt}", {"good": "g.txt", "bad": "b.txt"}),
        ("data.columns.text=评论", "评论"),
        ("model.name=", None),
    ],
)
def test_an_override_keeps_the_typed_value(text: str, value: Any) -> None:
    assert parse_override(text)[1] == value


def test_a_folder_is_an_error() -> None:
    Path("folder").mkdir()
    with pytest.raises(RecipeError) as caught:
        read_draft(Path("folder"))
    assert str(caught.value) == "folder: Is a directory; name a readable file"


@pytest.mark.parametrize("separator", [",", "|", " | ", "\t", ";", "||", ", ", "/", ">", ":", "-", "?"])
def test_a_separator_without_quotes_is_taken_literally(separator: str) -> None:
    assert parse_override(f"data.delimiter={separator}") == (("data", "delimiter"), separator)
