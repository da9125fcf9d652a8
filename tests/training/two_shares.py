"""What tests/training/test_processes.py starts twice by torchrun: weights in shares, gathered, written and divided again.

In a script of its own: what FSDP holds on to at the end of a process can abort it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from llmkit.runs import distributed
from llmkit.training.checkpoints import sharded, state_dict


def shares_that_went_on(folder: Path) -> tuple[float, list[str]]:
    """How far weights in shares that were gathered, written and divided again differ after two steps more from those
    that went on, and the names of what was written. FSDP2's own words on CPUs, which Accelerate does not shard on."""
    from torch.distributed.fsdp import fully_shard

    def fresh() -> tuple[torch.nn.Module, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Embedding(11, 6), torch.nn.Linear(6, 8), torch.nn.BatchNorm1d(8))
        model[1].bias.requires_grad_(False)
        for part in (*model, model):
            fully_shard(part)
        return model, torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=0.1)

    def learn(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        for seed in (1, 2):
            torch.manual_seed(seed)
            model(torch.randint(0, 11, (4,))).square().sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    model, optimizer = fresh()
    learn(model, optimizer)
    weights, tensors = sharded.gather_weights(model), {}
    plain = state_dict.flatten_state(sharded.gather_optimizer_state(model, optimizer), "optimizer", tensors)
    if distributed.is_main_process():
        state_dict.write_tensors(weights, folder / "weights.safetensors")
        state_dict.write_tensors(tensors, folder / "state.safetensors")
    distributed.barrier("written")
    again, its = fresh()
    sharded.scatter_weights(again, state_dict.read_tensors(folder / "weights.safetensors"))
    held = state_dict.read_tensors(folder / "state.safetensors")
    sharded.scatter_optimizer_state(again, its, state_dict.unflatten_state(distributed.broadcast(plain), held))
    for one in ((model, optimizer), (again, its)):
        learn(*one)
    ends = [sharded.gather_weights(one) for one in (model, again)]
    return max((float((ends[0][name] - ends[1][name]).abs().max()) for name in ends[0]), default=0.0), sorted(weights)


if __name__ == "__main__":
    distributed.join_processes()
    distributed.init_process_group(60.0, "cpu")
    Path(f"shares-{distributed.rank()}.json").write_text(json.dumps(shares_that_went_on(Path())))
    distributed.barrier("done")
    os._exit(0)
