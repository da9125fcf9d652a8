"""Gathers and restores full model weights and optimizer state, whether they are replicated or sharded.

FSDP's and DeepSpeed's own checkpoints hold pickles. Here all ranks gather full tensors, the main process writes them,
and each rank loads its shard of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn
from transformers import Trainer

from llmkit.runs import distributed
from llmkit.training.checkpoints import state_dict as states


def collect_weights(trainer: Trainer, sharded: bool) -> states.Tensors:
    """Return the trained weights and buffers, on the main process at least."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if not sharded:
        return states.select_checkpoint_weights(model)
    if not trainer.is_deepspeed_enabled:
        return gather_weights(trainer.model)
    full = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    return {name: full[name] for name in states.list_checkpoint_weights(model)} if distributed.is_main_process() else {}


def restore_weights(trainer: Trainer, path: Path, sharded: bool) -> None:
    """Load the weights of a file on every rank, or each rank's shard of them."""
    if sharded:
        scatter_weights(trainer.model, states.read_tensors(path))
    else:
        states.load_checkpoint_weights(trainer.accelerator.unwrap_model(trainer.model), path)


def collect_optimizer_state(trainer: Trainer, sharded: bool) -> dict[str, Any] | None:
    """Return the optimizer state, on the main process at least; None for DeepSpeed's, which needs a pickle."""
    if trainer.is_deepspeed_enabled:
        return None
    return (
        gather_optimizer_state(trainer.model, trainer.optimizer)
        if sharded
        else states.get_optimizer_state(trainer.optimizer)
    )


def restore_optimizer(trainer: Trainer, state: dict[str, Any], sharded: bool) -> None:
    """Load the optimizer state on every rank, or each rank's shard of it."""
    if sharded:
        scatter_optimizer_state(trainer.model, trainer.optimizer, state)
    else:
        states.load_optimizer_state(trainer.optimizer, state)


def gather_weights(model: nn.Module) -> states.Tensors:
    """Gather the full trained weights and buffers on the main process; the other ranks get an empty dict."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    names = states.list_checkpoint_weights(model)
    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    return {name: tensor for name, tensor in full.items() if name in names}


def scatter_weights(model: nn.Module, tensors: states.Tensors) -> None:
    """Shard the weights that `gather_weights` returned on the main process over all ranks."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_model_state_dict

    # Not strict, because frozen weights are not in the checkpoint.
    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True, strict=False)
    set_model_state_dict(model, dict(tensors), options=options)


def gather_optimizer_state(model: nn.Module, optimizer: Any) -> dict[str, Any]:
    """Return the full optimizer state by weight name, on the main process."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, cpu_offload=True)
    return dict(get_optimizer_state_dict(model, states.unwrap_optimizer(optimizer), options=options))


def scatter_optimizer_state(model: nn.Module, optimizer: Any, state: dict[str, Any]) -> None:
    """Shard the state that `gather_optimizer_state` returned on the main process over all ranks."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, set_optimizer_state_dict

    options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    with states.keep_initial_rates(states.unwrap_optimizer(optimizer)):
        set_optimizer_state_dict(model, states.unwrap_optimizer(optimizer), state, options=options)
