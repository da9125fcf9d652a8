"""Steps from a stream of features: shuffled within a window, so that memory holds a window and no more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count, islice
from typing import Any

from torch.utils.data import DataLoader, IterableDataset

from llmkit.data.batching import order
from llmkit.tasks.base import Feature
from llmkit.training.batches.dataset import Item

WINDOW = 4096  # features that are in memory


class StreamSteps(IterableDataset[dict[str, Any]]):
    """The steps of an epoch: what `cut` makes of so many features in the order of the windows.

    The order follows from (seed, epoch, number of the window) alone.
    """

    def __init__(
        self,
        features: Callable[[], Iterator[Feature]],
        rows_per_step: int,
        seed: int,
        cut: Callable[[Sequence[Item]], dict[str, Any]],
        window: int = WINDOW,
    ) -> None:
        self.features, self.rows_per_step, self.seed, self.cut = features, rows_per_step, seed, cut
        self.window, self.epoch, self.done = max(window, rows_per_step), 0, (0, 0)

    def skip(self, epoch: int, steps: int) -> None:
        """Give nothing for the first `steps` of an epoch: a run that goes on has taken them, and throws them away."""
        self.done = epoch, steps

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[dict[str, Any]]:
        held: list[Item] = []
        numbered = (Item(self.epoch, number, feature) for number, feature in enumerate(self.features()))
        epoch, skipped = self.done
        left = skipped if epoch == self.epoch else 0
        for window in count():
            some = list(islice(numbered, self.window))
            # Another number than that of any plain epoch: a seed of three parts draws on its own.
            shuffled = order(len(some), self.seed, self.epoch, window)
            held += [some[i] for i in shuffled.tolist()]
            last = len(some) < self.window
            while len(held) >= self.rows_per_step or (last and held):
                yield {} if left > 0 else self.cut(held[: self.rows_per_step])
                left -= 1
                del held[: self.rows_per_step]
            if last:
                return


def stream_loader(steps: StreamSteps) -> DataLoader[Any]:
    """A dataloader whose items are steps."""
    return DataLoader(steps, batch_size=None)
