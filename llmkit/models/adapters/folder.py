"""An adapter's folder: what PEFT and llmkit write into it, and the base that it names."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING as WRITERS
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSIFIERS
from transformers.utils import GENERATION_CONFIG_NAME

from llmkit.data.readers.pkg_uri import SCHEME
from llmkit.errors import LlmkitError, MissingInputError, ModelError
from llmkit.models.sources import files
from llmkit.models.sources.hub import source, speaking_of
from llmkit.models.sources.model_ref import ADAPTER, ModelName, resolve
from llmkit.runs.manifest import file_hash, write_json

WEIGHTS = "adapter_model.safetensors"
BASE = "base.json"  # which base it was trained on, by name and by the hash of its weights
CONFIG = "model_config.json"  # the whole config of base and adapter: label names, thresholds, dropout
KINDS = {"SEQ_CLS": CLASSIFIERS, "SEQ_2_SEQ_LM": WRITERS}  # PEFT's task types, and the class each means
MEND = "put it back, or name where it is with --base FOLDER of eval and predict"


def about(name: ModelName) -> dict[str, Any]:
    """What adapter_config.json says. Raises ModelError for an adapter that llmkit cannot open, or must not."""
    found = files.content(name, ADAPTER)
    if not isinstance(found, dict) or not isinstance(found.get("base_model_name_or_path"), str):
        raise ModelError(f"{name.given}: an adapter that names no base", "merge it with PEFT, or name a whole model")
    if found.get("peft_type") != "LORA":
        what = f"{name.given}: an adapter of the type {found.get('peft_type')}"
        raise ModelError(what, "llmkit opens LoRA; merge it with PEFT")
    if found.get("megatron_config"):  # PEFT imports a module that the file names
        raise ModelError(f"{name.given}: an adapter of Megatron, which names code to import", "merge it with PEFT")
    return found


def recorded(name: ModelName) -> dict[str, Any]:
    """What base.json says, empty for an adapter that llmkit did not make."""
    found = files.content(name, BASE)
    return found if isinstance(found, dict) else {}


def base_of(name: ModelName) -> ModelName:
    """Where the base of the adapter `name` is: as the user says, else as the adapter does.

    Raises MissingInputError where it is gone, ModelError where it is an adapter itself.
    """
    said, ours = about(name), recorded(name)
    path, given = said["base_model_name_or_path"], str(ours.get("given") or "")
    # Of pkg:// another machine has another path; a path of this one may be relative to another folder. Never the Hub:
    # a local name may be somebody's there.
    also = [given] if given.startswith(SCHEME) or (given and Path(given).expanduser().is_dir()) else []
    places = [name.base] if name.base else [path, *also]
    fault: LlmkitError | None = None
    for place in places:
        try:
            base = resolve(place, None if name.base else said.get("revision"))
        except LlmkitError as why:
            fault = fault or why
            continue
        if base.adapter:
            mend = "merge that one first: train it with lora.merge=true"
            raise ModelError(f"{name.given}: its base {place} is an adapter itself", mend)
        return base
    shown = name.base or given or path
    at = f" (it was at {path})" if path != shown else ""
    raise MissingInputError(f"{name.given}: an adapter, and its base {shown} is not there{at}", MEND) from fault


def check_base(name: ModelName, base: ModelName) -> None:
    """Raise ModelError where the base has other weights than the adapter was trained beside."""
    known = recorded(name).get("weights")
    if known is None:
        return
    found = weight_hashes(base)
    if found != known:
        others = sorted(file for file in found.keys() | known.keys() if found.get(file) != known.get(file))
        what = f"{name.given}: {base.given} is not the base that it was trained on: {', '.join(others)} differs"
        raise ModelError(what, "put it back, or name it with --base FOLDER of eval and predict")


def weight_hashes(base: ModelName) -> dict[str, str]:
    """The sha256 of every file of weights of a model, by name."""
    return {file: file_hash(path) for file, path in sorted(files.weights(base).items())}


def read_config(name: ModelName, changes: Mapping[str, Any]) -> PreTrainedConfig:
    """The config of base and adapter together, with `changes`: llmkit's own, else the base's for as many labels."""
    assert name.folder is not None
    if (name.folder / CONFIG).is_file():
        return AutoConfig.from_pretrained(name.folder / CONFIG, trust_remote_code=False, **changes)
    base, said = base_of(name), about(name)
    are_safe(name)
    with speaking_of(base):
        config = AutoConfig.from_pretrained(base.id, trust_remote_code=False, **source(base))
    kind = said.get("task_type")
    if kind == "SEQ_CLS" and (labels := labels_held(name.folder)) not in (None, config.num_labels):
        changes = {"num_labels": labels} | dict(changes)
    config = AutoConfig.from_pretrained(base.id, trust_remote_code=False, **source(base), **changes)
    if kind in KINDS and type(config) in KINDS[kind]:
        config.architectures = [KINDS[kind][type(config)].__name__]
    elif isinstance(auto := said.get("auto_mapping"), dict):
        config.architectures = [str(auto.get("base_model_class"))]
    return config


def labels_held(folder: Path) -> int | None:
    """How many labels the head in the adapter's file tells apart: the rows of its one layer that is not square."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if ".lora_" not in key]  # noqa: SIM118
    rows = {shape[0] for shape in shapes if len(shape) == 2 and shape[0] != shape[1]}
    return rows.pop() if len(rows) == 1 else None


def are_safe(name: ModelName) -> None:
    """Raise ModelError where the adapter's weights lie in a pickle, or are not there."""
    assert name.folder is not None
    if not (name.folder / WEIGHTS).is_file():
        pickle = (name.folder / "adapter_model.bin").is_file()
        found = "only adapter_model.bin, which can run code" if pickle else f"no {WEIGHTS}"
        raise ModelError(f"{name.given}: {found}", "save the adapter with safe_serialization=True")


def write(folder: Path, base: ModelName, model: PreTrainedModel, quantize: str, unquantized: Sequence[str]) -> None:
    """Write what PEFT's own files do not say: label names and the like, and which base it is."""
    own = copy.deepcopy(model.config)
    own.architectures = [type(model).__name__]  # the base's may be another
    own.to_json_file(folder / CONFIG, use_diff=True)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    path, revision = place(base, model.config)
    record = {"schema": 1, "given": base.given, "path": path, "revision": revision,
              "weights": weight_hashes(base), "quantize": quantize, "unquantized": list(unquantized)}  # fmt: skip
    write_json(folder / BASE, record)


def answer_as_saved(model: PreTrainedModel, folder: Path) -> None:
    """Let the model generate as the adapter's folder says, where it says how."""
    if model.can_generate() and (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)


def place(base: ModelName, config: PreTrainedConfig) -> tuple[str, str | None]:
    """Where PEFT finds the base: its path on this machine, or its Hub id and commit."""
    if base.folder is not None:
        return str(base.folder.resolve()), None
    return base.id, getattr(config, "_commit_hash", None) or base.revision
