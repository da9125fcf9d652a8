"""Adapter folders: the files that PEFT and llmkit write, and the base model they refer to."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import AutoConfig, GenerationConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING as SEQ2SEQ_MODELS
from transformers.models.auto.modeling_auto import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSIFIER_MODELS
from transformers.utils import GENERATION_CONFIG_NAME

from llmkit.data.readers.pkg_uri import PKG_SCHEME
from llmkit.errors import LlmkitError, MissingInputError, ModelError
from llmkit.models.sources import files
from llmkit.models.sources.hub import explain_loading_errors, get_source_kwargs
from llmkit.models.sources.model_ref import ADAPTER_CONFIG_FILE, ModelRef, resolve_model
from llmkit.runs.manifest import hash_file, write_json_file

ADAPTER_WEIGHTS_FILE = "adapter_model.safetensors"
BASE_RECORD_FILE = "base.json"  # the base model it was trained on: its name and the hashes of its weights
ADAPTED_CONFIG_FILE = "model_config.json"  # the full model config: label names, thresholds, dropout
# Model classes by PEFT's task type.
PEFT_MODEL_MAPPINGS = {"SEQ_CLS": CLASSIFIER_MODELS, "SEQ_2_SEQ_LM": SEQ2SEQ_MODELS}
BASE_FIX = "restore it, or pass its folder with --base FOLDER of eval and predict"


def read_peft_config(ref: ModelRef) -> dict[str, Any]:
    """Read adapter_config.json. Raises ModelError for an adapter that is not supported or not safe to load."""
    config = files.read_model_json(ref, ADAPTER_CONFIG_FILE)
    if not isinstance(config, dict) or not isinstance(config.get("base_model_name_or_path"), str):
        raise ModelError(f"{ref.name}: an adapter that names no base model", "merge it with PEFT, or name a full model")
    if config.get("peft_type") != "LORA":
        what = f"{ref.name}: an adapter of type {config.get('peft_type')}"
        raise ModelError(what, "llmkit loads only LoRA adapters; merge it with PEFT")
    if config.get("megatron_config"):  # PEFT would import a module named in the file
        raise ModelError(f"{ref.name}: an adapter of Megatron, which names code to import", "merge it with PEFT")
    return config


def read_base_record(ref: ModelRef) -> dict[str, Any]:
    """Read base.json; empty for an adapter that llmkit did not write."""
    record = files.read_model_json(ref, BASE_RECORD_FILE)
    return record if isinstance(record, dict) else {}


def resolve_base_model(ref: ModelRef) -> ModelRef:
    """Find the base model of an adapter: the one that the user gave, else the one that its files name.

    Raises MissingInputError if it does not exist, ModelError if it is an adapter itself.
    """
    peft_config, record = read_peft_config(ref), read_base_record(ref)
    path, given = peft_config["base_model_name_or_path"], str(record.get("given") or "")
    # A pkg:// base has another path on another machine, and a relative path may have been given in another folder. The
    # name is never tried on the Hub, where another user may own it.
    alternatives = [given] if given.startswith(PKG_SCHEME) or (given and Path(given).expanduser().is_dir()) else []
    candidates = [ref.base] if ref.base else [path, *alternatives]
    error: LlmkitError | None = None
    for candidate in candidates:
        try:
            base = resolve_model(candidate, None if ref.base else peft_config.get("revision"))
        except LlmkitError as exception:
            error = error or exception
            continue
        if base.is_adapter:
            fix = "merge that one first: train it with lora.merge=true"
            raise ModelError(f"{ref.name}: its base {candidate} is an adapter itself", fix)
        return base
    name = ref.base or given or path
    at = f" (it was at {path})" if path != name else ""
    raise MissingInputError(f"{ref.name}: an adapter, and its base {name} is missing{at}", BASE_FIX) from error


def check_base_weights(ref: ModelRef, base: ModelRef) -> None:
    """Raise ModelError if the base model's weights differ from those that the adapter was trained on."""
    recorded = read_base_record(ref).get("weights")
    if recorded is None:
        return
    hashes = hash_weight_files(base)
    if hashes != recorded:
        changed = sorted(file for file in hashes.keys() | recorded.keys() if hashes.get(file) != recorded.get(file))
        what = f"{ref.name}: {base.name} is not the base that it was trained on: {', '.join(changed)} differs"
        raise ModelError(what, BASE_FIX)


def hash_weight_files(base: ModelRef) -> dict[str, str]:
    """Compute the sha256 of every weight file of a model, by file name."""
    return {file: hash_file(path) for file, path in sorted(files.find_weight_files(base).items())}


def read_adapter_config(ref: ModelRef, overrides: Mapping[str, Any]) -> PreTrainedConfig:
    """Read an adapted model's config: the one that llmkit wrote, else the base's with the adapter's label count."""
    assert ref.folder is not None
    if (ref.folder / ADAPTED_CONFIG_FILE).is_file():
        return AutoConfig.from_pretrained(ref.folder / ADAPTED_CONFIG_FILE, trust_remote_code=False, **overrides)
    base, peft_config = resolve_base_model(ref), read_peft_config(ref)
    check_adapter_weights(ref)
    with explain_loading_errors(base):
        config = AutoConfig.from_pretrained(base.id, trust_remote_code=False, **get_source_kwargs(base))
    task_type = peft_config.get("task_type")
    if task_type == "SEQ_CLS" and (labels := infer_label_count(ref.folder)) not in (None, config.num_labels):
        overrides = {"num_labels": labels} | dict(overrides)
    config = AutoConfig.from_pretrained(base.id, trust_remote_code=False, **get_source_kwargs(base), **overrides)
    if task_type in PEFT_MODEL_MAPPINGS and type(config) in PEFT_MODEL_MAPPINGS[task_type]:
        config.architectures = [PEFT_MODEL_MAPPINGS[task_type][type(config)].__name__]
    elif isinstance(auto := peft_config.get("auto_mapping"), dict):
        config.architectures = [str(auto.get("base_model_class"))]
    return config


def infer_label_count(folder: Path) -> int | None:
    """Infer the number of labels from the adapter's weights: the rows of its only non-square layer outside LoRA."""
    from safetensors import safe_open

    with safe_open(folder / ADAPTER_WEIGHTS_FILE, "pt") as file:
        shapes = [file.get_slice(key).get_shape() for key in file.keys() if ".lora_" not in key]  # noqa: SIM118
    rows = {shape[0] for shape in shapes if len(shape) == 2 and shape[0] != shape[1]}
    return rows.pop() if len(rows) == 1 else None


def check_adapter_weights(ref: ModelRef) -> None:
    """Raise ModelError if the adapter's weights are a pickle or missing."""
    assert ref.folder is not None
    if not (ref.folder / ADAPTER_WEIGHTS_FILE).is_file():
        pickle = (ref.folder / "adapter_model.bin").is_file()
        problem = "only adapter_model.bin, which can run code" if pickle else f"no {ADAPTER_WEIGHTS_FILE}"
        raise ModelError(f"{ref.name}: {problem}", "save the adapter with safe_serialization=True")


def write_adapter_files(
    folder: Path, base: ModelRef, model: PreTrainedModel, quantize: str, unquantized: Sequence[str]
) -> None:
    """Write the files that PEFT does not: the full model config, generation config and base model record."""
    config = copy.deepcopy(model.config)
    config.architectures = [type(model).__name__]  # the base model's class may differ
    config.to_json_file(folder / ADAPTED_CONFIG_FILE, use_diff=True)
    if model.can_generate():
        model.generation_config.save_pretrained(folder)
    path, revision = locate_base_model(base, model.config)
    record = {"schema": 1, "given": base.name, "path": path, "revision": revision,
              "weights": hash_weight_files(base), "quantize": quantize, "unquantized": list(unquantized)}  # fmt: skip
    write_json_file(folder / BASE_RECORD_FILE, record)


def load_generation_config(model: PreTrainedModel, folder: Path) -> None:
    """Apply the generation config of the adapter's folder to the model, if there is one."""
    if model.can_generate() and (folder / GENERATION_CONFIG_NAME).is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)


def locate_base_model(base: ModelRef, config: PreTrainedConfig) -> tuple[str, str | None]:
    """Get the path, or Hub id and commit, from which PEFT loads the base model."""
    if base.folder is not None:
        return str(base.folder.resolve()), None
    return base.id, getattr(config, "_commit_hash", None) or base.revision
