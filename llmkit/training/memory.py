"""Memory of training: what a pass keeps for the backward pass, the limit of a pass, and the peak of the process."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmkit.errors import OutOfMemoryError, is_out_of_memory
from llmkit.report.doctor import machine
from llmkit.runs import distributed

if TYPE_CHECKING:
    import torch

    from llmkit.tasks.base import Batch, Feature
    from llmkit.training.trainer import StepTrainer

# Share of the memory that is planned for. The rest holds libraries, rows, the temporary tensors of forward and backward
# pass (the largest are copies of the logits), fragmentation, and on a CPU other programs.
PLANNED_SHARE = 0.5
WEIGHT_COPIES = 4  # of trainable weights: the weights, their gradient, and Adam's two running means
SHARDED_PASS_ROWS = 32  # of max_length: a model is sharded only when training starts, too late to measure a pass
MEASURED_TOKENS = 64  # of the smaller measured pass, at least
SEARCHED_ROWS = 10_000  # rows among which the longest is searched


@dataclass(frozen=True)
class PassMemory:
    """Bytes that a forward pass keeps for its backward pass: of any pass, and for each token of it."""

    fixed: float
    per_token: float


def limit_pass_to_memory(trainer: StepTrainer) -> None:
    """Lower the trainer's limit of a pass to what fits into memory, but not below one row.

    The limit is the same in every run on the same machine: it does not depend on time or on free memory.
    Raises OutOfMemoryError if one row does not fit.
    """
    size = trainer.step_collator.step_size
    if trainer.sharded:
        limit = SHARDED_PASS_ROWS * size.row_tokens
    else:
        memory = measure_pass_memory(trainer)
        planned = PLANNED_SHARE * measure_total_memory(trainer.args.device)
        limit = int((planned - count_model_bytes(trainer.model) - memory.fixed) / memory.per_token)
    limited = replace(size, max_tokens=max(size.row_tokens, min(size.max_tokens, limit)))
    trainer.step_collator = replace(trainer.step_collator, step_size=limited)


def measure_pass_memory(trainer: StepTrainer) -> PassMemory:
    """Measure forward passes over the longest row and over twice as much; weights, gradients, random numbers stay.

    Two passes, because each also keeps tensors that do not grow with it, such as the bf16 copies of weights. A short
    row is repeated in both, so that the padding of the whole pass does not hide the difference.
    Raises OutOfMemoryError if they do not fit.
    """
    row, collator = find_longest_row(trainer), trainer.step_collator
    copies = -(-MEASURED_TOKENS // sum(trainer.task.lengths(row)))
    batches = [collator.collate([row] * number) for number in (copies, 2 * copies)]
    with replay_random_numbers(trainer.args.device), train_mode(trainer), trainer.fast_path.enable():
        kept = [count_kept_bytes(trainer, batch) for batch in batches]
    sent = [collator.count_sent_tokens(batch) for batch in batches]
    per_token = max(1.0, (kept[1] - kept[0]) / (sent[1] - sent[0]))
    return PassMemory(max(0.0, kept[0] - per_token * sent[0]), per_token)


def find_longest_row(trainer: StepTrainer) -> Feature:
    """Return the longest row of the training data, or of an even sample of it, as a step augments it."""
    features, task = trainer.train_dataset.features, trainer.task
    every = max(1, len(features) // SEARCHED_ROWS)
    index = max(range(0, len(features), every), key=lambda at: sum(task.lengths(features[at])))
    return max(task.augment(features[index], (trainer.args.seed, 0, index)), key=lambda row: sum(task.lengths(row)))


def count_kept_bytes(trainer: StepTrainer, batch: Batch) -> int:
    """Return the bytes that a forward pass keeps for the backward pass, besides the weights and the batch."""
    import torch

    shape = " x ".join(map(str, batch["input_ids"].shape))
    inputs = trainer._prepare_inputs(batch)
    known = {one.untyped_storage().data_ptr() for one in (*trainer.model.parameters(), *inputs.values())}
    kept: dict[int, int] = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    try:
        with trainer.accelerator.autocast(), torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor):
            trainer.compute_loss(trainer.model, inputs)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        what = f"a batch of {shape} tokens does not fit into memory"
        raise OutOfMemoryError(what, "lower model.max_length, or choose a smaller model") from error
    return sum(kept.values())


@contextmanager
def replay_random_numbers(device: torch.device) -> Iterator[None]:
    """Restore the state of the random generators after the block, on the CPU and on the device."""
    import torch

    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        state = torch.mps.get_rng_state() if device.type == "mps" else None
        try:
            yield
        finally:
            if state is not None:
                torch.mps.set_rng_state(state)


@contextmanager
def train_mode(trainer: StepTrainer) -> Iterator[None]:
    """Put the model into training mode inside the block, and each module back into its own mode after it."""
    modes = [(module, module.training) for module in trainer.model.modules()]
    trainer.model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def count_model_bytes(model: torch.nn.Module) -> int:
    """Return the bytes of the weights, and of the gradients and optimizer states of the trainable ones."""
    return sum(
        weight.numel() * weight.element_size() * (WEIGHT_COPIES if weight.requires_grad else 1)
        for weight in model.parameters()
    )


def measure_total_memory(device: torch.device) -> float:
    """Return the bytes that this process may use: of its GPU, or of the machine, divided by the ranks that share it."""
    import torch

    places = distributed.all_gather((socket.gethostname(), str(device)))
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
    else:  # the memory of a GPU of Apple is that of the machine
        total = machine.measure_memory()[1]
    return float(total) / places.count((socket.gethostname(), str(device)))


def measure_peak_memory() -> int:
    """Return the peak memory in bytes: of the process, or on a GPU of its tensors."""
    import resource

    import torch

    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
