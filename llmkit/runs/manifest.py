"""run.json: what was run, on what, with what, and the hashes that prove it. Begun before step 1, sealed at the end."""

from __future__ import annotations

import hashlib
import json
import sys
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from llmkit.console import redacted
from llmkit.errors import DataError, DiskError, MissingInputError
from llmkit.runs import distributed, durable

SCHEMA = 1
LIBRARIES = (
    "llmkit", "torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "scikit-learn", "numpy",
    "scipy", "pyarrow", "rouge-score", "sacrebleu",
)  # fmt: skip
OPTIONAL = ("vaderSentiment", "sentencepiece", "bitsandbytes", "jieba")  # that decide one where they are there
# The parts of run.json that others read.
PARTS = {"versions": dict, "data": list, "precision": dict, "id": str, "recipe": dict, "given": dict, "model": dict,
         "outputs": dict, "resumed": list}  # fmt: skip
ALWAYS = ("versions", "data", "precision")  # the others came with a later llmkit, or with the end of the run
WORDS = {dict: "object", list: "list", str: "text"}


def read(run: Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises MissingInputError or DataError where it has none that can be read."""
    path = run / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise MissingInputError(
            f"{run}: no run folder: no run.json in it", "name a folder that a run has made"
        ) from None
    except ValueError:
        raise DataError(f"{path}: damaged: no JSON", "run again in another folder") from None
    if not isinstance(about, dict) or "sealed" not in about:
        raise DataError(f"{path}: damaged: no manifest of a run", "run again in another folder")
    if about.get("schema") != SCHEMA:
        raise DataError(f"{path}: of another version of llmkit", f"this one reads schema {SCHEMA}")
    if why := lacking(about):
        raise DataError(f"{path}: damaged: {why}", "run again in another folder")
    return about


def lacking(about: Mapping[str, Any]) -> str:
    """Which part of a manifest is not there or is none, and how; empty where all are sound."""
    needed = [*ALWAYS, "id"] if "recipe" in about else ALWAYS  # an older llmkit gave a run neither
    for key, kind in PARTS.items():
        if key not in about and key in needed:
            return f"{key} is missing"
        if key in about and not isinstance(about[key], kind):
            return f"{key} is no {WORDS[kind]}"
    if not all(isinstance(one, dict) and {"name", "sha256"} <= one.keys() for one in about["data"]):
        return "data lists something without name and sha256"
    return ""


def begin(run: Path, recipe_text: str, facts: Mapping[str, Any]) -> None:
    """Write the unsealed manifest with `facts` (seeds, precision, rows, data and model hashes, hardware)."""
    about = {
        "schema": SCHEMA,
        "id": uuid.uuid4().hex,
        "sealed": None,
        "argv": distributed.command(),
        "started": now(),
        "python": sys.version.split()[0],
        "versions": versions(),
        "recipe_sha256": facts.get("recipe_sha256") or text_hash(recipe_text),
        **facts,
    }
    write_json(run / "run.json", without_secrets(about))


def go_on(run: Path, step: int, facts: Mapping[str, Any], changed: Iterable[Sequence[Any]]) -> None:
    """Add to the unsealed manifest that the run went on after `step` and what was changed; `facts` are of now."""
    about = read(run)
    again = {"at": now(), "after_step": step, "argv": distributed.command(), "changed": [list(one) for one in changed]}
    about |= {**facts, "versions": versions(), "resumed": [*about.get("resumed", []), again]}
    write_json(run / "run.json", without_secrets(about))


def without_secrets(value: Any) -> Any:
    """`value` with tokens and passwords in its texts replaced, at any depth."""
    if isinstance(value, dict):
        return {key: without_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [without_secrets(one) for one in value]
    return redacted(value) if isinstance(value, str) else value


def seal(run: Path, outputs: Iterable[str]) -> None:
    """Add the hashes of those `outputs` (files or folders inside the run) that are there, and the time."""
    about = read(run)
    outputs = [name for name in outputs if (run / name).exists()]
    for name in outputs:  # the checkpoints go when the run is sealed: by then the disk has all that stays
        durable.sync_tree(run / name)
    about["outputs"] = {name: digest for one in outputs for name, digest in tree_hashes(run / one, run).items()}
    about["sealed"] = now()
    write_json(run / "run.json", about)


def versions() -> dict[str, str]:
    """The installed version of every library that decides a result."""
    found = {name: installed(name) for name in (*LIBRARIES, *OPTIONAL)}
    return {name: number or "not installed" for name, number in found.items() if number or name in LIBRARIES}


def installed(name: str) -> str | None:
    """The version of a package, None where it is not there."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def text_hash(text: str) -> str:
    """The sha256 of `text` as UTF-8."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def file_hash(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_hashes(path: Path, base: Path) -> dict[str, str]:
    """The hash of a file, or of every file below a folder, by its name relative to `base`; empty for neither."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {file.relative_to(base).as_posix(): file_hash(file) for file in files}


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file whole or not at all."""
    write_text(path, json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all. Raises DiskError where the disk does not take it."""
    beside = path.with_name(f".{path.name}.tmp")
    try:
        # A name that is no UTF-8 stands in the text as a lone surrogate; this is how JSON and YAML spell one.
        durable.write(beside, lambda file: file.write_text(text, "utf-8", "backslashreplace", newline=""))
        durable.rename(beside, path)
    except OSError as fault:
        beside.unlink(missing_ok=True)
        raise DiskError(f"{path}: {fault.strerror}", "free some space and run again") from None
