"""run.json, the manifest of a run: command, data, versions, hashes. Written before step 1, sealed at the end."""

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

from llmkit.console import redact_secrets
from llmkit.errors import DataError, DiskError, MissingInputError
from llmkit.runs import distributed, durable

MANIFEST_SCHEMA = 1
RESULT_LIBRARIES = (
    "llmkit", "torch", "transformers", "tokenizers", "accelerate", "peft", "datasets", "scikit-learn", "numpy",
    "scipy", "pyarrow", "rouge-score", "sacrebleu",
)  # fmt: skip
OPTIONAL_LIBRARIES = ("vaderSentiment", "sentencepiece", "bitsandbytes", "jieba")  # change results where installed
# The fields of run.json that other modules read.
MANIFEST_FIELDS = {"versions": dict, "data": list, "precision": dict, "id": str, "recipe": dict, "given": dict,
                   "model": dict, "outputs": dict, "resumed": list}  # fmt: skip
REQUIRED_FIELDS = ("versions", "data", "precision")  # the others came with a later llmkit, or with the end of the run
FIELD_TYPE_NAMES = {dict: "an object", list: "a list", str: "a string"}


def read_manifest(run: Path) -> dict[str, Any]:
    """The manifest of a run folder. Raises MissingInputError where it has none, DataError where it is damaged."""
    path = run / "run.json"
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        what = f"{run}: not a run folder: it has no run.json"
        raise MissingInputError(what, "name a run folder") from None
    except ValueError:
        raise DataError(f"{path}: damaged: not valid JSON", "run again in another folder") from None
    if not isinstance(about, dict) or "sealed" not in about:
        raise DataError(f"{path}: damaged: not the manifest of a run", "run again in another folder")
    if about.get("schema") != MANIFEST_SCHEMA:
        raise DataError(f"{path}: written by another version of llmkit", f"this one reads schema {MANIFEST_SCHEMA}")
    if why := find_manifest_defect(about):
        raise DataError(f"{path}: damaged: {why}", "run again in another folder")
    return about


def find_manifest_defect(about: Mapping[str, Any]) -> str:
    """The first field of a manifest that is missing or of the wrong type, and why; empty where all are valid."""
    required = [*REQUIRED_FIELDS, "id"] if "recipe" in about else REQUIRED_FIELDS  # an older llmkit wrote neither
    for key, kind in MANIFEST_FIELDS.items():
        if key not in about and key in required:
            return f"{key} is missing"
        if key in about and not isinstance(about[key], kind):
            return f"{key} is not {FIELD_TYPE_NAMES[kind]}"
    if not all(isinstance(one, dict) and {"name", "sha256"} <= one.keys() for one in about["data"]):
        return "an entry of data has no name or no sha256"
    return ""


def begin_manifest(run: Path, recipe_text: str, facts: Mapping[str, Any]) -> None:
    """Write the unsealed manifest with `facts` (seeds, precision, rows, data and model hashes, hardware)."""
    about = {
        "schema": MANIFEST_SCHEMA,
        "id": uuid.uuid4().hex,
        "sealed": None,
        "argv": distributed.get_user_command(),
        "started": format_utc_now(),
        "python": sys.version.split()[0],
        "versions": collect_versions(),
        "recipe_sha256": facts.get("recipe_sha256") or hash_text(recipe_text),
        **facts,
    }
    write_json_file(run / "run.json", redact_nested_secrets(about))


def record_resume(run: Path, step: int, facts: Mapping[str, Any], changed: Iterable[Sequence[Any]]) -> None:
    """Add to the unsealed manifest that the run resumed after `step`, and the changed keys; `facts` replace the old."""
    about = read_manifest(run)
    resume = {
        "at": format_utc_now(),
        "after_step": step,
        "argv": distributed.get_user_command(),
        "changed": [list(one) for one in changed],
    }
    about |= {**facts, "versions": collect_versions(), "resumed": [*about.get("resumed", []), resume]}
    write_json_file(run / "run.json", redact_nested_secrets(about))


def redact_nested_secrets(value: Any) -> Any:
    """`value` with tokens and passwords in its strings replaced, at any depth."""
    if isinstance(value, dict):
        return {key: redact_nested_secrets(one) for key, one in value.items()}
    if isinstance(value, list):
        return [redact_nested_secrets(one) for one in value]
    return redact_secrets(value) if isinstance(value, str) else value


def seal_manifest(run: Path, outputs: Iterable[str]) -> None:
    """Add the time and the hashes of those `outputs` (files or folders inside the run) that exist."""
    about = read_manifest(run)
    outputs = [name for name in outputs if (run / name).exists()]
    for name in outputs:  # checkpoints are removed once the run is sealed: all that is kept must be on the disk by then
        durable.sync_tree(run / name)
    about["outputs"] = {name: digest for one in outputs for name, digest in hash_tree(run / one, run).items()}
    about["sealed"] = format_utc_now()
    write_json_file(run / "run.json", about)


def collect_versions() -> dict[str, str]:
    """The installed version of every library that can change a result."""
    installed = {name: get_installed_version(name) for name in (*RESULT_LIBRARIES, *OPTIONAL_LIBRARIES)}
    return {name: number or "not installed" for name, number in installed.items() if number or name in RESULT_LIBRARIES}


def get_installed_version(name: str) -> str | None:
    """The version of a package, None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def format_utc_now() -> str:
    """The current time in UTC, as ISO 8601 with seconds."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def hash_text(text: str) -> str:
    """The sha256 of `text` as UTF-8."""
    return hashlib.sha256(text.encode(errors="backslashreplace")).hexdigest()


def hash_file(path: Path) -> str:
    """The sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_tree(path: Path, base: Path) -> dict[str, str]:
    """The sha256 of a file, or of every file below a folder, by name relative to `base`; empty if `path` is absent."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {file.relative_to(base).as_posix(): hash_file(file) for file in files}


def write_json_file(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file atomically. Raises ValueError for NaN and infinity, DiskError where the disk is full."""
    write_text_file(path, json.dumps(record, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_text_file(path: Path, text: str) -> None:
    """Write a text file atomically. Raises DiskError where the disk is full."""
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        # A file name that is not UTF-8 is a lone surrogate in the text; JSON and YAML spell it with this escape.
        durable.write_synced(temporary, lambda file: file.write_text(text, "utf-8", "backslashreplace", newline=""))
        durable.rename_synced(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DiskError(f"{path}: {error.strerror}", "free some space and run again") from None
