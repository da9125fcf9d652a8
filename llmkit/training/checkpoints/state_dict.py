"""Training state as tensors and JSON, without pickle: optimizer, learning rate schedule, random states."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmkit.errors import InternalError, RecipeError

Tensors = dict[str, Tensor]


def flatten_state(value: Any, name: str, tensors: Tensors) -> Any:
    """Convert `value` to JSON values; its tensors are added to `tensors` by their path. Raises TypeError otherwise."""
    if isinstance(value, (Tensor, np.ndarray)):
        tensors[name] = torch.as_tensor(value).detach()
        return {"$tensor" if isinstance(value, Tensor) else "$array": name}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: flatten_state(one, f"{name}.{key}", tensors) for key, one in value.items()}
        items = [
            [flatten_state(key, name, tensors), flatten_state(one, f"{name}.{key}", tensors)]
            for key, one in value.items()
        ]
        return {"$items": items}
    if isinstance(value, (list, tuple)):
        parts = [flatten_state(one, f"{name}.{at}", tensors) for at, one in enumerate(value)]
        return {"$tuple": parts} if isinstance(value, tuple) else parts
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name}: a {type(value).__name__}")


def unflatten_state(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Invert `flatten_state`."""
    if isinstance(value, list):
        return [unflatten_state(one, tensors) for one in value]
    if not isinstance(value, dict):
        return value
    match next(iter(value.items()), None):
        case ("$tensor", name):
            return tensors[name]
        case ("$array", name):
            return tensors[name].numpy()
        case ("$float", text):
            return float(text)
        case ("$tuple", parts):
            return tuple(unflatten_state(parts, tensors))
        case ("$items", items):
            return {unflatten_state(key, tensors): unflatten_state(one, tensors) for key, one in items}
    return {key: unflatten_state(one, tensors) for key, one in value.items()}


def write_tensors(tensors: Tensors, path: Path) -> None:
    """Write tensors to a safetensors file; tensors that share memory are copied first."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        shared = tensor.untyped_storage().data_ptr() in seen or not tensor.is_contiguous()
        seen.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor.contiguous().clone() if shared else tensor
    save_file(separate, path)


def read_tensors(path: Path) -> Tensors:
    """Read the tensors of a safetensors file, on the CPU."""
    tensors: Tensors = load_file(path)
    return tensors


def write_state_json(value: Any, path: Path) -> None:
    """Write the JSON values of `flatten_state`."""
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")


def get_rng_state() -> dict[str, Any]:
    """Return the state of every random generator that training may use in this process."""
    state = {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()  # of this process's one device
    if torch.backends.mps.is_available():
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore_rng_state(state: Mapping[str, Any]) -> None:
    """Restore the random states; those of a device that is no longer present are skipped."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if torch.cuda.is_available() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
    if torch.backends.mps.is_available() and "mps" in state:
        torch.mps.set_rng_state(state["mps"])


def list_checkpoint_weights(model: nn.Module) -> set[str]:
    """Return the names of the weights and buffers that training may change; tied weights have one name."""
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    return trained | {name for name, _ in model.named_buffers()}


def select_checkpoint_weights(model: nn.Module) -> Tensors:
    """Return the weights and buffers to save in a checkpoint."""
    names = list_checkpoint_weights(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name in names}


def load_checkpoint_weights(model: nn.Module, path: Path) -> None:
    """Load the weights and buffers of a checkpoint file into the model, in place."""
    saved, current = read_tensors(path), select_checkpoint_weights(model)
    if saved.keys() != current.keys():
        names = sorted(saved.keys() ^ current.keys())
        raise InternalError(f"{path}: its weights are not the model's ({', '.join(names[:5])})", "report this as a bug")
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(saved[name])


def get_optimizer_state(optimizer: Any) -> dict[str, Any]:
    """Return the optimizer's state dict. Raises RecipeError if saving it needs a pickle."""
    state: dict[str, Any] = optimizer.state_dict()
    try:
        flatten_state(state, "optimizer", {})
    except TypeError as error:
        what = f"train.optim: its state cannot be saved without a pickle ({error})"
        raise RecipeError(what, "name another, such as adamw_torch_fused") from error
    return state


def load_optimizer_state(optimizer: Any, state: dict[str, Any]) -> None:
    """Load the optimizer's state dict. Its configured learning rate stays."""
    inner = unwrap_optimizer(optimizer)
    with keep_initial_rates(inner):
        optimizer.load_state_dict(state)
    for group, saved in zip(inner.param_groups, state["param_groups"], strict=True):
        for weight, number in zip(group["params"], saved["params"], strict=True):
            for name, value in state["state"].get(number, {}).items():
                if isinstance(value, Tensor) and inner.state[weight][name].dtype != value.dtype:
                    # torch casts the state to the weight's dtype: an optimizer with a wider dtype would lose digits
                    inner.state[weight][name] = value.to(weight.device)


def unwrap_optimizer(optimizer: Any) -> Any:
    """Return the optimizer without Accelerate's wrapper."""
    return getattr(optimizer, "optimizer", optimizer)


@contextmanager
def keep_initial_rates(optimizer: Any) -> Iterator[None]:
    """Load the optimizer state inside the block; its learning rates are then rescaled to the configured ones, because
    a resumed run may use another rate."""
    configured = [group.get("initial_lr") for group in optimizer.param_groups]
    yield
    for group, rate in zip(optimizer.param_groups, configured, strict=True):
        before = group.get("initial_lr")
        if rate is not None and before and rate != before:
            group["initial_lr"], group["lr"] = rate, group["lr"] * rate / before


def load_lr_scheduler_state(schedule: Any, state: dict[str, Any]) -> None:
    """Load the schedule's step, and take the learning rates from its optimizer."""
    schedule.load_state_dict(state)
    if hasattr(schedule, "base_lrs"):
        groups = schedule.optimizer.param_groups
        schedule.base_lrs, schedule._last_lr = ([group[key] for group in groups] for key in ("initial_lr", "lr"))
