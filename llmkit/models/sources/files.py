"""Safety checks of model files before loading: no references outside the folder, no weights in pickles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.sources.hub import get_source_kwargs
from llmkit.models.sources.model_ref import ADAPTER_CONFIG_FILE, ModelRef

ROOT_JSON_FILES = ("config.json", "model_config.json", "tokenizer_config.json", "model.safetensors.index.json")
# Keys whose values transformers opens as files relative to the one with the key.
FILE_NAME_KEYS = ("configuration_files", "transformers_weights", "fast_tokenizer_files", "weight_map")


def match_weight_permissions(folder: Path) -> None:
    """Give the weights the file mode of the JSON files: safetensors writes them readable by the owner only."""
    mode = min(path.stat().st_mode for path in folder.glob("*.json"))
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def check_referenced_files(ref: ModelRef) -> None:
    """Raise ModelError if a JSON file of the model refers to a file outside its own folder."""
    pending, seen = list(ROOT_JSON_FILES), set()
    while pending:
        file = pending.pop(0)
        seen.add(file)
        for key, file_name in list_referenced_files(read_model_json(ref, file)):
            if not is_plain_file_name(file_name):
                what = f"{file}: {key} names {file_name!r}, which is not a file in the same folder"
                raise ModelError(f"{ref.name}: {what}",
                                 "do not use this model, or write plain file names there")  # fmt: skip
            if file_name.endswith(".json") and file_name not in seen:
                pending.append(file_name)


def read_model_json(ref: ModelRef, file: str) -> Any:
    """Read a JSON file of the model; None if it is missing or damaged (the loader reports damage)."""
    path: Path | str | None = ref.folder / file if ref.folder is not None else find_cached_file(ref, file)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def find_cached_file(ref: ModelRef, file: str) -> str | None:
    """Find the local path of a file from the Hub, downloading it if needed; None if it is not available."""
    from transformers.utils import cached_file

    try:
        return cached_file(ref.id, file, **get_source_kwargs(ref))
    except OSError:
        return None


def list_referenced_files(content: Any) -> list[tuple[str, Any]]:
    """List the (key, file name) pairs of a JSON object that refer to files."""
    found: list[tuple[str, Any]] = []
    for key in FILE_NAME_KEYS:
        value = content.get(key) if isinstance(content, dict) else None
        file_names = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        found += [(key, file_name) for file_name in file_names if file_name is not None]
    return found


def is_plain_file_name(file_name: Any) -> bool:
    """Check whether the value is a file name without directories."""
    return isinstance(file_name, str) and file_name not in ("", ".", "..") and not set(file_name) & set("/\\\0")


def find_weight_files(ref: ModelRef) -> dict[str, Path]:
    """Find the safetensors files of a model: local paths by file name."""
    if ref.folder is not None:
        return {path.name: path for path in ref.folder.glob("*.safetensors")}
    index = read_model_json(ref, "model.safetensors.index.json")
    shards = set(index["weight_map"].values()) if isinstance(index, dict) else {"model.safetensors"}
    found = {part: find_cached_file(ref, part) for part in shards}
    return {part: Path(path) for part, path in found.items() if path is not None}


def check_weight_files(ref: ModelRef) -> None:
    """Raise ModelError if a local folder has no safetensors weights, or an adapter next to them."""
    if ref.folder is None or ref.is_adapter:
        return
    if (ref.folder / ADAPTER_CONFIG_FILE).exists():  # transformers would apply it to the weights without being asked
        raise ModelError(f"{ref.name}: an adapter next to its full weights", "merge it with PEFT, or remove it")
    if not any(ref.folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in ref.folder.glob(pattern))
        problem = f"only {', '.join(pickles)}, which can run code" if pickles else "no weights"
        raise ModelError(f"{ref.name}: {problem}", "save the model as model.safetensors (save_pretrained does)")
