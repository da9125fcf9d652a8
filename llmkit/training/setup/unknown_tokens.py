"""Checks the share of unknown tokens: a warning if it is large, an error if targets consist of almost nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from llmkit import console
from llmkit.data.rows import Rows
from llmkit.errors import DataError
from llmkit.schema import Recipe
from llmkit.tasks.base import EncodedRows, Feature, Task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MAX_SAMPLED_FEATURES = 4096  # features per split in which unknown tokens are counted
UNKNOWN_WARN_SHARE = 0.1  # above this share of unknown tokens the tokenizer may be for another language
UNKNOWN_TARGET_LIMIT = 0.9  # above this share in the targets there is nothing to learn


def check_unknown_tokens(
    recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase, train: Rows, encoded: Mapping[str, EncodedRows]
) -> None:
    """Print a warning if more than a tenth of the tokens are unknown, per column for text generation.

    Raises DataError if the training targets are almost only unknown tokens.
    """
    if task.max_target_length and task.target is not None and task.target in train.column_mapping:
        check_unknown_by_column(recipe, task.target, tokenizer, train, encoded["train"].features)
        return
    unknown = measure_token_share(tokenizer.unk_token_id, (one.features for one in encoded.values()))
    if unknown > UNKNOWN_WARN_SHARE:
        fix = "choose a model of this language with --model"
        if recipe.model.tokenizer is not None:
            fix = "choose a tokenizer of this language with --tokenizer"
        if recipe.model.vocabulary is not None:
            fix = "train on more rows, or lower model.vocabulary.min_frequency"
        console.print_message(f"the tokenizer does not know {unknown:.0%} of the tokens: {fix}")


def check_unknown_by_column(
    recipe: Recipe, target: str, tokenizer: PreTrainedTokenizerBase, train: Rows, features: Sequence[Feature]
) -> None:
    """Check the source and the target column of the training rows separately."""
    target_column = train.column_name(target)
    source_column = next(column for name, column in train.column_mapping.items() if name != target)
    new = f"a tokenizer of both columns (llmkit tokenizer train FILE --column {source_column} --column {target_column})"
    fix = f"train {new}" if recipe.model.from_config else f"name another model, or --from-config and {new}"
    for column, key in ((source_column, "input_ids"), (target_column, "labels")):
        unknown = measure_unknown_share(tokenizer, features, key)
        what = f"the tokenizer does not know {unknown:.0%} of the tokens of '{column}'"
        if column == target_column and unknown > UNKNOWN_TARGET_LIMIT:
            raise DataError(f"{train.name}: {what}, and a model cannot learn to write unknown tokens", fix)
        if unknown > UNKNOWN_WARN_SHARE:
            console.print_message(f"{what}: {fix}")


def measure_token_share(token: int | None, splits: Iterable[Sequence[Feature]]) -> float:
    """Return the share of one token in the features; of long sequences an even sample is counted."""
    import numpy as np

    matches = total = 0
    for features in splits:
        for feature in sample_evenly(features):
            ids = np.asarray(feature["input_ids"])
            matches, total = matches + int(np.count_nonzero(ids == token)), total + len(ids)
    return matches / max(1, total)


def measure_unknown_share(tokenizer: PreTrainedTokenizerBase, features: Sequence[Feature], key: str) -> float:
    """Return the share of unknown tokens among text tokens.

    Special tokens and lone space markers are excluded: in short targets they would hide that all text is unknown.
    """
    counts = Counter(token for feature in sample_evenly(features) for token in feature[key])
    unknown = 0 if tokenizer.unk_token_id is None else counts.pop(tokenizer.unk_token_id, 0)
    special = set(tokenizer.all_special_ids)
    known = sum(times for token, times in counts.items() if token not in special and tokenizer.decode([token]).strip())
    return unknown / max(1, unknown + known)


def sample_evenly(features: Sequence[Feature]) -> Iterable[Feature]:
    """Return all features, or an evenly spaced sample of a few thousand: a corpus encodes each feature on access."""
    return (features[at] for at in range(0, len(features), max(1, len(features) // MAX_SAMPLED_FEATURES)))
