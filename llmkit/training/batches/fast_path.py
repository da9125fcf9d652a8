"""What makes a step cheaper and changes nothing that it computes: installed while the Trainer learns, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from transformers import PreTrainedModel, TrainingArguments

from llmkit.data.corpus.masking import IGNORED
from llmkit.models.fast.dropout import draw_as_torch, draw_many
from llmkit.models.fast.embedding_grad import collect_as_torch, collect_in_place
from llmkit.models.fast.padding_free import Packing, packing_for
from llmkit.models.fast.sparse_head import Sparse, can_be_sparse
from llmkit.models.networks import NetworkConfig
from llmkit.tasks.base import Batch, Feature

BY_BOTH = "steps are cut by source and target length (same gradient); an encoder-decoder has no others"
PROBE = 64  # features among which a long and a short one are looked for


@dataclass
class Shortcuts:
    """The shortcuts of one model: none where neither `packing` nor `sparse` is there."""

    model: PreTrainedModel
    packing: Packing | None
    why_not: str = ""
    sparse: Sparse | None = None  # where there is no packing, which does the same and more
    collects: bool = True  # whether the embedding's gradient is collected in place
    installed: bool = False

    def said(self) -> str:
        """One line for the user."""
        off = "(same gradient; train.shortcuts=off)"
        if self.packing is not None:
            last = ", the last layer only where it is read" if self.packing.last is not None else ""
            head = ", the head only where a label is" if self.packing.reads == "labels" else ""
            return f"shortcuts: texts without padding{last}{head} {off}"
        if self.sparse is not None:
            return f"shortcuts: the head only where a label is {off}; batches are padded ({self.why_not})"
        if self.why_not == BY_BOTH:
            return f"shortcuts: {BY_BOTH}"
        return f"shortcuts: none ({self.why_not}); batches are padded"

    def install(self) -> None:
        """Begin."""
        if self.packing is not None:
            self.packing.install()
            if self.collects:
                collect_in_place(self.model)
            draw_many(self.model)
        if self.sparse is not None:
            self.sparse.install()
        self.installed = True

    def remove(self) -> None:
        """Make the model what it was."""
        if self.packing is not None:
            self.packing.remove()
            collect_as_torch(self.model)
            draw_as_torch(self.model)
        if self.sparse is not None:
            self.sparse.remove()
        self.installed = False

    @contextmanager
    def removed(self) -> Iterator[None]:
        """The plain model for a while."""
        was_installed = self.installed
        self.remove()
        try:
            yield
        finally:
            if was_installed:
                self.install()

    def batch(self, padded: Batch, plain: Batch) -> dict[str, Any]:
        """What the model reads of a batch that would read `plain` of it without shortcuts."""
        if self.packing is not None:
            return self.packing.pack(padded)
        if self.sparse is not None:
            self.sparse.wanted = padded["labels"] != IGNORED
        return plain

    def sent(self, padded: Batch) -> int:
        """The tokens of the batch that go through the model."""
        return padded["input_ids"].numel() if self.packing is None else self.packing.size(padded)


def shortcuts_for(
    model: PreTrainedModel,
    args: TrainingArguments,
    wanted: str,
    features: Sequence[Feature],
    collate: Callable[[Sequence[Feature]], Batch],
    reads: Literal["first", "labels", "all"] = "first",
) -> Shortcuts:
    """The shortcuts that this model, machine and recipe allow; tried on two of the features."""
    by_length = sorted(features[:PROBE], key=lambda feature: -len(feature["input_ids"]))
    probe = collate([by_length[0], by_length[-1]])
    if reads == "labels":  # of every token: a drawn mask may hide one alone, which nothing can be compared with
        probe["labels"] = probe["input_ids"].masked_fill(~probe["attention_mask"].bool(), IGNORED)
    why = ""
    if wanted == "off":
        why = "train.shortcuts=off"
    elif reads == "all":
        why = BY_BOTH
    elif isinstance(model.config, NetworkConfig):
        why = "a network without attention has no use for them"
    elif args.device.type != "cpu":
        why = f"not tested on {args.device.type}"
    elif args.gradient_checkpointing:
        why = "beside gradient checkpointing"
    if reads != "all" and not why:
        packing, why = packing_for(model, probe, reads)
        if packing is not None:
            # Several processes average the gradients that torch made, and this one it does not see.
            return Shortcuts(model, packing, collects=args.world_size == 1)
    if (
        reads == "labels"
        and wanted != "off"
        and can_be_sparse(model, {k: v.to(model.device) for k, v in probe.items()})
    ):
        return Shortcuts(model, None, why, Sparse(model))
    return Shortcuts(model, None, why)
