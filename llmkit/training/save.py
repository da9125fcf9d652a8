"""Saves the trained model and verifies that the reloaded model equals the trained one."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from llmkit import console
from llmkit.data.rows import Rows
from llmkit.errors import DiskError, InternalError
from llmkit.models import load as models
from llmkit.models.heads import rescale_output_layer
from llmkit.models.load import LoadedModel
from llmkit.models.sources import files
from llmkit.models.sources.model_ref import resolve_model
from llmkit.runs import distributed
from llmkit.runs.folder import RunFolder
from llmkit.schema import LoraSection, Recipe
from llmkit.tasks.base import Batch, Task

VERIFIED_ROWS = 8  # rows on which the saved model must predict as the trained one
RELOAD_TOLERANCE = 1e-6  # relative difference of logits allowed after saving and reloading
MERGED_RELOAD_TOLERANCE = 1e-5  # the same after merging an adapter, which sums in another order


def save_and_verify(recipe: Recipe, task: Task, loaded: LoadedModel, rows: Rows, folder: RunFolder) -> PreTrainedModel:
    """Write model/, reload it with its tokenizer in plain transformers or PEFT, and compare tokens, logits and config.

    Returns the reloaded model in fp32 and eval mode, which is then scored. Raises InternalError if it differs from the
    trained model, DiskError if it could not be written.
    """
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)  # left by the same run, killed while saving
    for field in ("thresholds", "sentiment"):  # left by the run that the weights come from
        loaded.model.config.__dict__.pop(field, None)
    loaded.model.config.update(task.head().config)  # including what was calibrated on validation
    if (target_scale := task.head().target_scale) is not None:
        mean, scale = target_scale
        rescale_output_layer(loaded.model, scale, mean)
    device = loaded.model.device
    sample = rows.take(range(min(VERIFIED_ROWS, len(rows))))
    features = task.encode(sample, loaded.tokenizer, recipe.model.max_length).features
    probe = task.collator(loaded.tokenizer)(features[:VERIFIED_ROWS])  # a document may have several features
    inputs = task.inputs(loaded.model, {name: tensor.to(device) for name, tensor in probe.items()})
    logits = compute_logits(loaded.model, inputs)
    write_trained_model(recipe, loaded, target)
    with models.silence_transformers():
        reloaded = reload_model(recipe, target, task.head().auto_class, device)
        tokenizer = models.load_tokenizer(resolve_model(str(target)), allow_slow=task.allow_slow_tokenizer)
    if task.encode(sample, tokenizer, recipe.model.max_length).features != features:
        raise InternalError(f"{target}: the reloaded tokenizer produces other tokens", "report this as a bug")
    difference, largest = float((compute_logits(reloaded, inputs) - logits).abs().max()), float(logits.abs().max())
    tolerance = MERGED_RELOAD_TOLERANCE if recipe.lora and recipe.lora.merge else RELOAD_TOLERANCE
    if not difference <= tolerance * max(1.0, largest):
        raise InternalError(f"{target}: reloaded logits differ by {difference:.1e}", "report this as a bug")
    if loaded.model.can_generate() and read_generation_settings(reloaded) != read_generation_settings(loaded.model):
        raise InternalError(f"{target}: its reloaded generation settings differ", "report this as a bug")
    for field in task.head().config:
        if getattr(reloaded.config, field) != getattr(loaded.model.config, field):
            raise InternalError(f"{target}: '{field}' of its reloaded config differs", "report this as a bug")
    task.load_config(reloaded.config)  # from here on as for any user of the folder
    return prepare_for_scoring(reloaded)


def save_on_main(recipe: Recipe, task: Task, loaded: LoadedModel, rows: Rows, folder: RunFolder) -> PreTrainedModel:
    """Save and verify the model on the main process, and load it on the other ranks; return the reloaded model."""
    if distributed.is_main_process():
        reloaded = save_and_verify(recipe, task, loaded, rows, folder)
        distributed.barrier("the model is saved")
        return reloaded
    distributed.barrier("the model is saved")
    with models.silence_transformers():
        reloaded = reload_model(recipe, folder / "model", task.head().auto_class, loaded.model.device)
    task.load_config(reloaded.config)
    return prepare_for_scoring(reloaded)


def prepare_for_scoring(model: PreTrainedModel) -> PreTrainedModel:
    """Return the model in fp32, unless it is quantized, and in eval mode."""
    return (model if getattr(model, "is_quantized", False) else model.float()).eval()


def compute_logits(model: PreTrainedModel, inputs: Batch) -> torch.Tensor:
    """Compute the logits without dropout."""
    with torch.inference_mode():
        logits: torch.Tensor = model.eval()(**inputs).logits
    return logits


def write_trained_model(recipe: Recipe, loaded: LoadedModel, target: Path) -> None:
    """Write the full model, the adapter, or the merged model. Raises DiskError if it could not be written."""
    model, tokenizer, length = loaded.model, loaded.tokenizer, recipe.model.max_length
    try:
        if recipe.lora is None:
            models.save_model(model, tokenizer, target, length)
        elif recipe.lora.merge:
            from llmkit.models.adapters import lora

            lora.merge_adapter(model)
            models.save_model(model, tokenizer, target, length)
        else:
            write_adapter_folder(recipe, recipe.lora, loaded, target)
        files.match_weight_permissions(target)
    except (OSError, SafetensorError) as error:
        raise DiskError(
            f"{target}: {getattr(error, 'strerror', None) or error}", "free some space and run again"
        ) from error


def write_adapter_folder(recipe: Recipe, section: LoraSection, loaded: LoadedModel, target: Path) -> None:
    """Write a PEFT folder with the tokenizer, label names and the base model's hash, and print its size."""
    from llmkit.models.adapters import folder as adapter_folder
    from llmkit.models.adapters import lora

    assert recipe.model.name is not None
    base = resolve_model(recipe.model.name, recipe.model.revision)
    path, revision = adapter_folder.locate_base_model(base, loaded.model.config)
    with models.silence_transformers():
        lora.save_lora_adapter(loaded.model, target, path, revision)
        models.save_tokenizer(loaded.tokenizer, target, recipe.model.max_length)
    unquantized = lora.list_unquantized_modules(loaded.model, lora.list_fully_trained_modules(loaded.model))
    adapter_folder.write_adapter_files(target, base, loaded.model, section.quantize, unquantized)
    size = (target / adapter_folder.ADAPTER_WEIGHTS_FILE).stat().st_size
    console.print_message(f"the adapter takes {size / 2**20:.1f} MiB; its base is {base.name}")


def reload_model(recipe: Recipe, target: Path, auto_class: str, device: torch.device) -> PreTrainedModel:
    """Reload the saved model in plain transformers or PEFT."""
    if recipe.lora is None or recipe.lora.merge:
        return getattr(transformers, auto_class).from_pretrained(target, dtype=recipe.model.dtype).to(device)
    from llmkit.models.adapters import folder as adapter_folder
    from llmkit.models.adapters import lora, quantize

    record = adapter_folder.read_base_record(resolve_model(str(target)))
    quantization = quantize.build_quantization_kwargs(record["quantize"], record["unquantized"])
    model = lora.load_with_peft(target, auto_class, recipe.model.dtype, **quantization)
    adapter_folder.load_generation_config(model, target)
    return model if quantization else model.to(device)  # quantized weights are already on their device


def read_generation_settings(model: PreTrainedModel) -> dict[str, Any]:
    """Return the model's generation settings that differ from the defaults."""
    settings: dict[str, Any] = model.generation_config.to_diff_dict()
    return {key: value for key, value in settings.items() if key not in ("transformers_version", "_from_model_config")}


def estimate_disk_bytes(recipe: Recipe, model: PreTrainedModel) -> int:
    """Estimate the bytes that a run writes: model/, and checkpoints with weights and usually two optimizer states."""
    trained = sum_weight_bytes(weight for weight in model.parameters() if weight.requires_grad)
    saved = trained if recipe.lora is not None and not recipe.lora.merge else sum_weight_bytes(model.parameters())
    # At least the best and the last checkpoint, the best one that an older checkpoint needs, and one being written.
    checkpoints = max(2, recipe.train.save_total_limit) + 2
    return saved + 3 * checkpoints * trained


def sum_weight_bytes(weights: Iterable[torch.Tensor]) -> int:
    """Return the size of the weights in bytes."""
    return sum(weight.numel() * weight.element_size() for weight in weights)
