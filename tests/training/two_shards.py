"""Script that tests/training/test_processes.py starts by torchrun: sharded weights are gathered, saved and restored.

It is a separate script, because FSDP can abort a process at its exit.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from llmkit.runs import distributed
from llmkit.training.checkpoints import sharded, state_dict


def compare_resumed(folder: Path) -> tuple[float, list[str]]:
    """Save, restore and continue sharded weights for two steps; return the largest difference from the uninterrupted
    weights, and the names of the saved weights. Calls FSDP2 itself, because Accelerate does not shard on CPUs."""
    from torch.distributed.fsdp import fully_shard

    def build() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(11, 6), torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8))
        model[1].bias.requires_grad_(False)
        for part in (*model, model):
            fully_shard(part)
        return model, torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.1)

    def train_steps(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for seed in (1, 2):
            torch.manual_seed(seed)
            model(torch.randint(0, 11, (4,))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer = build()
    train_steps(model, optimizer)
    weights, tensors = sharded.gather_weights(model), {}
    state_json = state_dict.flatten_state(sharded.gather_optimizer_state(model, optimizer), "optimizer", tensors)
    if distributed.is_main_process():
        state_dict.write_tensors(weights, folder / "weights.safetensors")
        state_dict.write_tensors(tensors, folder / "state.safetensors")
    distributed.barrier("written")
    restored, restored_optimizer = build()
    sharded.scatter_weights(restored, state_dict.read_tensors(folder / "weights.safetensors"))
    saved = state_dict.read_tensors(folder / "state.safetensors")
    state = state_dict.unflatten_state(distributed.broadcast(state_json), saved)
    sharded.scatter_optimizer_state(restored, restored_optimizer, state)
    for one in ((model, optimizer), (restored, restored_optimizer)):
        train_steps(*one)
    ends = [sharded.gather_weights(one) for one in (model, restored)]
    return max((float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]), default=0.0), sorted(weights)


if __name__ == "__main__":
    distributed.join_processes()
    distributed.init_process_group(60.0, "cpu")
    Path(f"shards-{distributed.rank()}.json").write_text(json.dumps(compare_resumed(Path())))
    distributed.barrier("done")
    os._exit(0)
