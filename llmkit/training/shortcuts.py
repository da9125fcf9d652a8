"""What makes a step cheaper and changes nothing that it computes: installed while the Trainer learns, and only then."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, TrainingArguments

from llmkit.models.dropout import draw_as_torch, draw_many
from llmkit.models.embedding import collect_as_torch, collect_in_place
from llmkit.models.packed import Packing, packing_for
from llmkit.tasks.base import Batch, Feature

PROBE = 64  # features among which a long and a short one are looked for


@dataclass
class Shortcuts:
    """The shortcuts of one model: none where `packing` is None."""

    model: PreTrainedModel
    packing: Packing | None
    why_not: str = ""
    installed: bool = False

    def said(self) -> str:
        """One line for the user."""
        if self.packing is None:
            return f"shortcuts: none ({self.why_not}); batches are padded"
        last = ", the last layer only where it is read" if self.packing.last is not None else ""
        return f"shortcuts: texts without padding{last} (same gradient; train.shortcuts=off)"

    def install(self) -> None:
        """Begin."""
        if self.packing is not None:
            self.packing.install()
            collect_in_place(self.model)
            draw_many(self.model)
            self.installed = True

    def remove(self) -> None:
        """Make the model what it was."""
        if self.packing is not None:
            self.packing.remove()
            collect_as_torch(self.model)
            draw_as_torch(self.model)
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

    def batch(self, padded: Batch) -> dict[str, Any]:
        """The batch as the model reads it."""
        return padded if self.packing is None else self.packing.pack(padded)

    def sent(self, padded: Batch) -> int:
        """The tokens of the batch that go through the model."""
        return padded["input_ids"].numel() if self.packing is None else self.packing.size(padded)


def shortcuts_for(
    model: PreTrainedModel,
    args: TrainingArguments,
    wanted: str,
    features: Sequence[Feature],
    collate: Callable[[Sequence[Feature]], Batch],
) -> Shortcuts:
    """The shortcuts that this model, machine and recipe allow; tried on two of the features."""
    why = ""
    if wanted == "off":
        why = "train.shortcuts=off"
    elif args.device.type != "cpu":
        why = f"not tested on {args.device.type}"
    elif args.gradient_checkpointing:
        why = "beside gradient checkpointing"
    elif args.world_size > 1:
        why = "on one process only"
    if why:
        return Shortcuts(model, None, why)
    by_length = sorted(features[:PROBE], key=lambda feature: -len(feature["input_ids"]))
    packing, why = packing_for(model, collate([by_length[0], by_length[-1]]))
    return Shortcuts(model, packing, why)
