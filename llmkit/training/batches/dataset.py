"""What a loader hands to the trainer: features that know their number and their epoch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from torch.utils.data import Dataset, Sampler

from llmkit.data.batching import StepSampler
from llmkit.tasks.base import Feature


class IndexedFeature(NamedTuple):
    """A feature, its number, and the epoch that asks for it: all that chance may follow from, and what names it."""

    epoch: int
    feature_index: int
    feature: Feature


class IndexedDataset(Dataset[IndexedFeature]):
    """Features with their numbers, so that a bad step can name its rows."""

    def __init__(self, features: Sequence[Feature]) -> None:
        self.features = features

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, at: tuple[int, int]) -> IndexedFeature:
        return IndexedFeature(*at, self.features[at[1]])


class EpochBatchSampler(Sampler[list[tuple[int, int]]]):
    """The steps of an epoch, each feature's number with the epoch: loader processes outlive epochs."""

    def __init__(self, steps: StepSampler) -> None:
        self.steps, self.epoch = steps, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that comes next."""
        self.epoch = epoch
        self.steps.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        return ([(self.epoch, row) for row in rows] for rows in self.steps)
