"""The files of a model before they are read: none points out of its folder, and no weights lie in a pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmkit.errors import ModelError
from llmkit.models.sources.hub import source
from llmkit.models.sources.model_ref import ADAPTER, ModelName

FIRST = ("config.json", "model_config.json", "tokenizer_config.json", "model.safetensors.index.json")
# Keys whose values transformers opens as files beside the one that names them.
POINTERS = ("configuration_files", "transformers_weights", "fast_tokenizer_files", "weight_map")


def share(folder: Path) -> None:
    """Let those who may read the JSON files of a folder read its weights: safetensors writes them for their owner."""
    mode = min(path.stat().st_mode for path in folder.glob("*.json"))
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def stay_inside(name: ModelName) -> None:
    """Raise ModelError where a file of the model names one that is not beside it, in whatever folder that is."""
    waiting, seen = list(FIRST), set()
    while waiting:
        file = waiting.pop(0)
        seen.add(file)
        for key, pointed in pointers(content(name, file)):
            if not bare(pointed):
                raise ModelError(f"{name.given}: {file}: {key} names {pointed!r}, which is no file beside it",
                                 "do not use this model, or write plain file names there")  # fmt: skip
            if pointed.endswith(".json") and pointed not in seen:
                waiting.append(pointed)


def content(name: ModelName, file: str) -> Any:
    """What a JSON file of the model holds; None where it has no such file, or a damaged one (the loader says so)."""
    path: Path | str | None = name.folder / file if name.folder is not None else cached(name, file)
    if path is None:
        return None
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def cached(name: ModelName, file: str) -> str | None:
    """Where a file of the Hub lies on this disk, None where the Hub has or gives none."""
    from transformers.utils import cached_file

    try:
        return cached_file(name.id, file, **source(name))
    except OSError:
        return None


def pointers(about: Any) -> list[tuple[str, Any]]:
    """The file names in a JSON object, each with the key that names it."""
    found: list[tuple[str, Any]] = []
    for key in POINTERS:
        value = about.get(key) if isinstance(about, dict) else None
        several = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
        found += [(key, one) for one in several if one is not None]
    return found


def bare(pointed: Any) -> bool:
    """Whether the value is the name of a file and no way to anywhere."""
    return isinstance(pointed, str) and pointed not in ("", ".", "..") and not set(pointed) & set("/\\\0")


def weights(name: ModelName) -> dict[str, Path]:
    """The files of weights of a model, by name, where they lie on this disk."""
    if name.folder is not None:
        return {path.name: path for path in name.folder.glob("*.safetensors")}
    index = content(name, "model.safetensors.index.json")
    parts = set(index["weight_map"].values()) if isinstance(index, dict) else {"model.safetensors"}
    found = {part: cached(name, part) for part in parts}
    return {part: Path(path) for part, path in found.items() if path is not None}


def weights_are_safe(name: ModelName) -> None:
    """Raise ModelError where a local folder has its weights in pickles only, none at all, or an adapter over them."""
    if name.folder is None or name.adapter:
        return
    if (name.folder / ADAPTER).exists():  # transformers would put it over the weights unasked
        raise ModelError(f"{name.given}: an adapter lies beside its weights", "merge it with PEFT, or remove it")
    if not any(name.folder.glob("*.safetensors")):
        pickles = sorted(path.name for pattern in ("*.bin", "*.pt", "*.pth") for path in name.folder.glob(pattern))
        found = f"only {', '.join(pickles)}, which can run code" if pickles else "no weights"
        raise ModelError(f"{name.given}: {found}", "save the model as model.safetensors (save_pretrained does)")
