"""Collates a step: this rank's share of its rows, as the micro-batches that data/batching.py groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import PreTrainedModel, TrainingArguments

from llmkit.data.batching import group_micro_batches, group_unpadded, partition_balanced
from llmkit.models.networks import NetworkConfig
from llmkit.runs import distributed
from llmkit.tasks.base import Batch, Feature, Task
from llmkit.training.batches.dataset import IndexedFeature
from llmkit.training.batches.fast_path import FastPath
from llmkit.training.setup.step_size import StepSize

# Cost of one more forward and backward pass, in tokens: on a CPU it touches the gradients of all weights again
# (benchmarks/passes.py: 50 to 63 in fp32, 182 to 198 in bf16). The values for GPUs, which idle on a pass of few
# tokens, are guesses, not measured.
PASS_OVERHEAD = {
    "cpu": {"fp32": 56, "bf16": 192},
    "cuda": {"fp32": 4096, "bf16": 8192, "fp16": 8192},
    "mps": {"fp32": 1024},
}
# A recurrent network runs one pass per word of the longest text, however many texts there are; packed sequences make
# padding free. On SST-2 a step of an LSTM takes a quarter fewer CPU seconds than with the numbers above.
NETWORK_PASS_OVERHEAD = 400
ROWS_MULTIPLE = 8


def get_pass_overhead(model: PreTrainedModel, args: TrainingArguments) -> int:
    """Return the cost of one more pass through this model, in tokens."""
    overhead = PASS_OVERHEAD[args.device.type]["bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"]
    return max(overhead, NETWORK_PASS_OVERHEAD) if isinstance(model.config, NetworkConfig) else overhead


class StepLoader(DataLoader[Any]):
    """A DataLoader that yields whole steps; the Trainer calls `set_epoch` at the start of each epoch."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)


@dataclass(frozen=True)
class StepCollator:
    """Collates steps into passes within the limit of `step_size`."""

    task: Task
    collate: Callable[[Sequence[Feature]], Batch]
    fast_path: FastPath
    seed: int
    step_size: StepSize
    pass_overhead: int

    def collate_step(self, items: Sequence[IndexedFeature]) -> dict[str, Any]:
        """Return this rank's micro-batches of a step with their loss weights, item count and token counts, and the
        indices of all features of the step. A rank without rows gets one micro-batch with weight 0."""
        row_lengths = [sum(self.task.lengths(item.feature)) for item in items]
        part = partition_balanced(row_lengths, distributed.world_size())[distributed.rank()]
        mine = items if distributed.world_size() == 1 else [items[i] for i in part] or items[:1]
        augmented = [
            one for epoch, index, feature in mine for one in self.task.augment(feature, (self.seed, epoch, index))
        ]
        lengths = [self.task.lengths(one) for one in augmented]
        max_tokens = self.step_size.max_tokens
        if self.fast_path.padding_free is not None:
            groups = group_unpadded([sum(one) for one in lengths], max_tokens)
        else:
            multiple = min(ROWS_MULTIPLE, self.step_size.rows_at_once)
            groups = group_micro_batches(lengths, max_tokens, self.pass_overhead, multiple)
        batches = [self.collate([augmented[i] for i in group]) for group in groups]
        weight = float(bool(part))
        return {
            "batches": batches,
            "weights": [weight] * len(batches),
            "count": weight * sum(self.task.num_items(batch) for batch in batches),
            "rows": [item.feature_index for item in items],
            "tokens": int(weight) * sum(map(sum, lengths)),
            "padded": int(weight) * sum(self.count_sent_tokens(batch) for batch in batches),
        }

    def count_sent_tokens(self, batch: dict[str, torch.Tensor]) -> int:
        """Return the number of source and target tokens of a batch that go through the model."""
        return self.fast_path.count_sent_tokens(batch) + (batch["labels"].numel() if self.task.max_target_length else 0)
