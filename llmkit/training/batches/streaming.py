"""Streaming dataset of optimizer steps: shuffles features within a window, so that memory holds one window only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from llmkit.data.batching import permute_rows
from llmkit.tasks.base import Feature
from llmkit.training.batches.dataset import IndexedFeature

SHUFFLE_WINDOW = 4096  # features in memory


class StreamSteps(IterableDataset[dict[str, Any]]):
    """The steps of an epoch: `collate` is called on each `rows_per_step` features, shuffled within windows.

    The order depends only on seed, epoch and window index.
    """

    def __init__(
        self,
        features: Callable[[], Iterator[Feature]],
        rows_per_step: int,
        seed: int,
        collate: Callable[[Sequence[IndexedFeature]], dict[str, Any]],
        window: int = SHUFFLE_WINDOW,
    ) -> None:
        self.features, self.rows_per_step, self.seed, self.collate = features, rows_per_step, seed, collate
        self.window, self.epoch, self.skipped_steps = max(window, rows_per_step), 0, (0, 0)

    def skip(self, epoch: int, steps: int) -> None:
        """Yield empty steps for the first `steps` of an epoch: a resumed run has trained on them and discards them."""
        self.skipped_steps = epoch, steps

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch whose order the next iteration uses."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        buffer: list[IndexedFeature] = []
        indexed = (IndexedFeature(self.epoch, index, feature) for index, feature in enumerate(self.features()))
        epoch, skipped = self.skipped_steps
        to_skip = skipped if epoch == self.epoch else 0
        for window in count():
            chunk = list(islice(indexed, self.window))
            # The seed has three parts (seed, epoch, window), so it never equals the seed of an epoch in memory.
            shuffled = permute_rows(len(chunk), self.seed, self.epoch, window)
            buffer += [chunk[i] for i in shuffled.tolist()]
            last = len(chunk) < self.window
            while len(buffer) >= self.rows_per_step or (last and buffer):
                yield {} if to_skip > 0 else self.collate(buffer[: self.rows_per_step])
                to_skip -= 1
                del buffer[: self.rows_per_step]
            if last:
                return


def build_stream_loader(steps: StreamSteps) -> DataLoader[Any]:
    """Return a DataLoader that yields whole steps."""
    return DataLoader(steps, batch_size=None)
