"""Tests of run.json: begun, read, sealed and resumed; written atomically; without secrets."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import DataError, DiskError, LlmkitError
from llmkit.runs import distributed, manifest

RUN = Path("run")
FACTS: dict[str, Any] = {"data": [{"name": "r.csv", "sha256": "ab"}], "precision": {"train": "fp32"}}


@pytest.fixture(autouse=True)
def run(own_folder: Path) -> None:
    RUN.mkdir()


def get_error(kind: type[LlmkitError]) -> str:
    with pytest.raises(kind) as caught:
        manifest.read_manifest(RUN)
    return str(caught.value)


def test_begin_read_seal() -> None:
    manifest.begin_manifest(RUN, "task: classify\n", FACTS | {"rows": {"train": 3}})
    about = manifest.read_manifest(RUN)
    assert about["schema"] == manifest.MANIFEST_SCHEMA
    assert about["sealed"] is None
    assert about["rows"] == {"train": 3}
    assert about["recipe_sha256"] == hashlib.sha256(b"task: classify\n").hexdigest()
    assert (
        set(manifest.RESULT_LIBRARIES)
        <= set(about["versions"])
        <= {*manifest.RESULT_LIBRARIES, *manifest.OPTIONAL_LIBRARIES}
    )
    assert {"peft", "rouge-score", "sacrebleu", "vaderSentiment"} <= set(about["versions"])
    assert "not installed" not in about["versions"].values()

    (RUN / "model").mkdir()
    (RUN / "model" / "weights").write_bytes(b"\0\1")
    (RUN / "recipe.yaml").write_text("x")
    manifest.seal_manifest(RUN, ["recipe.yaml", "model", "absent.json"])
    sealed = manifest.read_manifest(RUN)
    assert sealed["sealed"] >= about["started"]
    assert sealed["outputs"] == {
        "recipe.yaml": hashlib.sha256(b"x").hexdigest(),
        "model/weights": hashlib.sha256(b"\0\1").hexdigest(),
    }
    assert {key: value for key, value in sealed.items() if key not in ("sealed", "outputs")} == {
        key: value for key, value in about.items() if key != "sealed"
    }


def test_a_given_recipe_hash_is_kept() -> None:
    manifest.begin_manifest(RUN, "text", FACTS | {"recipe_sha256": "abc"})
    assert manifest.read_manifest(RUN)["recipe_sha256"] == "abc"


def test_no_token_of_the_command_line_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["llmkit", "hf_abcdefgh12345678", "--token=s3cret", "api_key=k1", "https://me:pw@host/x", "train.seed=1"]
    monkeypatch.setattr(sys, "argv", words)
    manifest.begin_manifest(RUN, "", FACTS)
    assert manifest.read_manifest(RUN)["argv"] == [
        "llmkit",
        "***",
        "--token=***",
        "api_key=***",
        "https://***@host/x",
        "train.seed=1",
    ]


def test_a_resumed_run_records_the_typed_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        distributed.COMMAND_VARIABLE, json.dumps(["llmkit", "train", "--resume", "run", "--processes", "2"])
    )
    monkeypatch.setattr(sys, "argv", ["llmkit", "train", "/tmp/llmkit-1234/recipe.yaml"])
    manifest.begin_manifest(RUN, "", FACTS)
    manifest.record_resume(RUN, 4, {}, [])
    about = manifest.read_manifest(RUN)
    assert about["argv"] == about["resumed"][0]["argv"] == ["llmkit", "train", "--resume", "run", "--processes", "2"]


def test_names_that_are_not_utf8_are_written_and_read() -> None:
    manifest.begin_manifest(RUN, "train: caf\udce9.csv", FACTS | {"name": "caf\udce9 评论"})
    assert manifest.read_manifest(RUN)["name"] == "caf\udce9 评论"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "run/run.json: damaged: not valid JSON; run again in another folder"),
        (b"\xff", "run/run.json: damaged: not valid JSON; run again in another folder"),
        ("[]", "run/run.json: damaged: not the manifest of a run; run again in another folder"),
        ('{"schema": 1}', "run/run.json: damaged: not the manifest of a run; run again in another folder"),
        (
            '{"schema": 2, "sealed": null}',
            "run/run.json: written by another version of llmkit; this one reads schema 1",
        ),
    ],
)
def test_a_damaged_or_foreign_manifest_is_rejected(text: str | bytes, message: str) -> None:
    (RUN / "run.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert get_error(DataError) == message


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"versions": ...}, "versions is missing"),
        ({"data": ...}, "data is missing"),
        ({"precision": ...}, "precision is missing"),
        ({"recipe": {}, "given": {}, "id": ...}, "id is missing"),
        ({"data": {}}, "data is not a list"),
        ({"data": [{"name": "r.csv"}]}, "an entry of data has no name or no sha256"),
        ({"data": [3]}, "an entry of data has no name or no sha256"),
        ({"recipe": 3}, "recipe is not an object"),
        ({"given": None}, "given is not an object"),
        ({"versions": []}, "versions is not an object"),
        ({"id": 3}, "id is not a string"),
        ({"outputs": "x"}, "outputs is not an object"),
        ({"model": "x"}, "model is not an object"),
        ({"resumed": {}}, "resumed is not a list"),
    ],
)
def test_an_incomplete_manifest_is_rejected_with_the_field(change: dict[str, Any], what: str) -> None:
    manifest.begin_manifest(RUN, "", FACTS)
    about = json.loads((RUN / "run.json").read_text(encoding="utf-8")) | change
    kept = {key: value for key, value in about.items() if value is not ...}
    (RUN / "run.json").write_text(json.dumps(kept), encoding="utf-8")
    assert get_error(DataError) == f"run/run.json: damaged: {what}; run again in another folder"


def test_a_folder_without_a_manifest_is_not_a_run() -> None:
    from llmkit.errors import MissingInputError

    assert get_error(MissingInputError) == "run: not a run folder: it has no run.json; name a run folder"


def test_a_file_is_written_atomically(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest.write_text_file(RUN / "a.txt", "first\r\n")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError) as caught:
        manifest.write_text_file(RUN / "a.txt", "second")
    assert str(caught.value) == "run/a.txt: No space left on device; free some space and run again"
    assert (RUN / "a.txt").read_bytes() == b"first\r\n"
    assert [one.name for one in RUN.iterdir()] == ["a.txt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_rejects_nan_and_infinity(value: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        manifest.write_json_file(RUN / "a.json", {"value": value})
    assert not (RUN / "a.json").exists()


def test_tree_hashes_cover_every_file() -> None:
    Path("run/b/c").mkdir(parents=True)
    Path("run/b/c/评").write_bytes(b"1")
    Path("run/a").write_bytes(b"2")
    hashes = manifest.hash_tree(RUN, RUN)
    assert list(hashes) == ["a", "b/c/评"]
    assert json.dumps(hashes["a"]) == f'"{hashlib.sha256(b"2").hexdigest()}"'
    assert manifest.hash_tree(RUN / "none", RUN) == {}
