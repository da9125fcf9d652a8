"""Dataset and batch sampler whose features carry their index and epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import Dataset, Sampler

from llmkit.data.batching import StepSampler
from llmkit.tasks.base import Feature


class IndexedFeature(NamedTuple):
    """A feature with its index and epoch: the only inputs to per-example randomness, and its identity in errors."""

    epoch: int
    feature_index: int
    feature: Feature


class IndexedDataset(Dataset[IndexedFeature]):
    """Features with their indices, so that an error in a step can name its rows."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, at: tuple[int, int]) -> IndexedFeature:
        return IndexedFeature(*at, self.features[at[1]])


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """Yields each step as (epoch, index) pairs: dataloader workers outlive epochs, so each index carries its epoch."""

    def __init__(self, steps: StepSampler) -> None:
        self.steps, self.epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch of the next iteration."""
        self.epoch = epoch
        self.steps.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(self.epoch, row) for row in rows] for rows in self.steps)
