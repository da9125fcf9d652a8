"""Fast path of training: padding-free batches and a sparse head, with the same loss and gradient as plain training.

It is installed in the model during training only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedModel, TrainingArguments

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models.fast.dropout import install_fast_dropout, remove_fast_dropout
from llmkit.models.fast.embedding_grad import install_embedding_gradient, remove_embedding_gradient
from llmkit.models.fast.padding_free import PaddingFree, try_padding_free
from llmkit.models.fast.sparse_head import SparseHead, has_positionwise_head
from llmkit.models.networks import NetworkConfig
from llmkit.tasks.base import Batch, Feature

LENGTH_CUT_REASON = "steps are split by source and target length (same gradient), as for every encoder-decoder"
PROBE_FEATURES = 64  # features from which a long and a short one are chosen


@dataclass
class FastPath:
    """The fast path of one model: padding-free batches, a sparse head, or neither, for the given reason."""

    model: PreTrainedModel
    padding_free: PaddingFree | None
    reason: str = ""
    sparse_head: SparseHead | None = None  # only without padding-free batches, which include it
    in_place_embedding_grad: bool = True  # whether the embedding gradient is accumulated in place
    installed: bool = False

    def describe(self) -> str:
        """Return the line that names the optimizations in use, or why there are none."""
        off = "(same gradient; train.fast_path=off disables it)"
        if self.padding_free is not None:
            last = ", last layer only at positions that are used" if self.padding_free.last_layer is not None else ""
            head = ", head only at labeled positions" if self.padding_free.positions == "labels" else ""
            return f"fast path: padding-free batches{last}{head} {off}"
        if self.sparse_head is not None:
            return f"fast path: head only at labeled positions {off}; batches are padded ({self.reason})"
        if self.reason == LENGTH_CUT_REASON:
            return f"fast path: {LENGTH_CUT_REASON}"
        return f"fast path: off ({self.reason}); batches are padded"

    def install(self) -> None:
        """Install the optimizations in the model."""
        if self.padding_free is not None:
            self.padding_free.install()
            if self.in_place_embedding_grad:
                install_embedding_gradient(self.model)
            install_fast_dropout(self.model)
        if self.sparse_head is not None:
            self.sparse_head.install()
        self.installed = True

    def remove(self) -> None:
        """Restore the plain model."""
        if self.padding_free is not None:
            self.padding_free.remove()
            remove_embedding_gradient(self.model)
            remove_fast_dropout(self.model)
        if self.sparse_head is not None:
            self.sparse_head.remove()
        self.installed = False

    @contextmanager
    def enable(self) -> Iterator[None]:
        """Install the optimizations inside the block."""
        self.install()
        try:
            yield
        finally:
            self.remove()

    @contextmanager
    def disable(self) -> Iterator[None]:
        """Restore the plain model inside the block."""
        was_installed = self.installed
        self.remove()
        try:
            yield
        finally:
            if was_installed:
                self.install()

    def transform_batch(self, padded: Batch, plain: Batch) -> dict[str, Any]:
        """Return the model inputs for a padded batch; `plain` are its inputs without the fast path."""
        if self.padding_free is not None:
            return self.padding_free.remove_padding(padded)
        if self.sparse_head is not None:
            self.sparse_head.position_mask = padded["labels"] != IGNORE_INDEX
        return plain

    def count_sent_tokens(self, padded: Batch) -> int:
        """Return the number of tokens of the batch that go through the model."""
        return padded["input_ids"].numel() if self.padding_free is None else self.padding_free.count_tokens(padded)


def build_fast_path(
    model: PreTrainedModel,
    args: TrainingArguments,
    mode: str,
    features: Sequence[Feature],
    collate: Callable[[Sequence[Feature]], Batch],
    positions: Literal["first", "labels", "all"] = "first",
) -> FastPath:
    """Build the fast path that this model, device and recipe allow, after a test on two of the features."""
    by_length = sorted(features[:PROBE_FEATURES], key=lambda feature: -len(feature["input_ids"]))
    probe = collate([by_length[0], by_length[-1]])
    if positions == "labels":  # label every token: a random mask may select a single one, too few to compare
        probe["labels"] = probe["input_ids"].masked_fill(~probe["attention_mask"].bool(), IGNORE_INDEX)
    why = ""
    if mode == "off":
        why = "train.fast_path=off"
    elif positions == "all":
        why = LENGTH_CUT_REASON
    elif isinstance(model.config, NetworkConfig):
        why = "a network without attention does not need it"
    elif args.device.type != "cpu":
        why = f"not tested on {args.device.type}"
    elif args.gradient_checkpointing:
        why = "not used with gradient checkpointing"
    if positions != "all" and not why:
        padding_free, why = try_padding_free(model, probe, positions)
        if padding_free is not None:
            # DDP averages the gradients that torch computes; it does not see the one that is accumulated in place.
            return FastPath(model, padding_free, in_place_embedding_grad=args.world_size == 1)
    if (
        positions == "labels"
        and mode != "off"
        and has_positionwise_head(model, {k: v.to(model.device) for k, v in probe.items()})
    ):
        return FastPath(model, None, why, SparseHead(model))
    return FastPath(model, None, why)
