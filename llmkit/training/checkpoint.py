"""Checkpoints: weights as safetensors in a folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor
from transformers import PreTrainedModel, TrainerState

from llmkit.errors import DiskError
from llmkit.models.load import quiet

PREFIX = "checkpoint-"


def save(model: PreTrainedModel, state: TrainerState, root: Path, weights: Mapping[str, Tensor] | None = None) -> Path:
    """Write `checkpoint-<step>` under `root` and return it; the folder has its name only when it is whole.

    `weights` are the model's where it holds only a share of them.
    """
    final, beside = root / f"{PREFIX}{state.global_step}", root / f".tmp-{state.global_step}"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        with quiet():
            save_weights(model, beside, weights)
        state.save_to_json(str(beside / "trainer_state.json"))
        for file in beside.iterdir():
            synced(file)
        if final.exists():
            shutil.rmtree(final)
        beside.rename(final)
        synced(root)
    except (OSError, SafetensorError) as fault:
        shutil.rmtree(beside, ignore_errors=True)
        raise DiskError(
            f"{final}: {getattr(fault, 'strerror', None) or fault}", "free some space and run again"
        ) from fault
    return final


def save_weights(model: PreTrainedModel, folder: Path, weights: Mapping[str, Tensor] | None = None) -> None:
    """Write model.safetensors: what is trained, where the rest is frozen, else the whole model."""
    if not hasattr(model, "peft_config"):  # asked without PEFT, whose import takes seconds
        model.save_pretrained(folder, state_dict=weights)
        return
    folder.mkdir(parents=True)
    trained = {name: weight.detach() for name, weight in model.named_parameters() if weight.requires_grad}
    save_file(trained, folder / "model.safetensors")


def synced(path: Path) -> None:
    """Make sure that `path` has reached the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def keep(root: Path, steps: set[int]) -> None:
    """Remove every checkpoint under `root` but those of `steps`. By number: file times may jump."""
    for folder in root.glob(f"{PREFIX}*"):
        if int(folder.name.removeprefix(PREFIX)) not in steps:
            shutil.rmtree(folder, ignore_errors=True)
