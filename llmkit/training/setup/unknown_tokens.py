"""The share of tokens that a tokenizer does not know: said where it is large, refused where nothing can be written."""

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

MAX_SAMPLED_FEATURES = 4096  # features of a split in which unknown tokens are counted
UNKNOWN_WARN_SHARE = 0.1  # share of unknown tokens from which the tokenizer may be of another language
UNKNOWN_TARGET_LIMIT = 0.9  # share of them in targets from which nothing is left to be written


def check_unknown_tokens(
    recipe: Recipe, task: Task, tokenizer: PreTrainedTokenizerBase, train: Rows, encoded: Mapping[str, EncodedRows]
) -> None:
    """Say where the tokenizer does not know a tenth of the tokens, by column where answers are text.

    Raises DataError where the targets to learn from hold next to nothing else.
    """
    if task.max_target_length and task.target is not None and task.target in train.column_mapping:
        check_unknown_by_column(recipe, task.target, tokenizer, train, encoded["train"].features)
        return
    unknown = measure_token_share(tokenizer.unk_token_id, (one.features for one in encoded.values()))
    if unknown > UNKNOWN_WARN_SHARE:
        mend = "--model names a model of" if recipe.model.tokenizer is None else "--tokenizer names one of"
        if recipe.model.vocabulary is not None:
            mend = "more rows, or a lower model.vocabulary.min_frequency, know more of"
        console.print_message(f"the tokenizer does not know {unknown:.0%} of the tokens: {mend} this language")


def check_unknown_by_column(
    recipe: Recipe, target: str, tokenizer: PreTrainedTokenizerBase, train: Rows, features: Sequence[Feature]
) -> None:
    """The same of the sources and the targets of training rows."""
    said = train.column_name(target)
    read = next(own for word, own in train.column_mapping.items() if word != target)
    one = f"one of both columns (llmkit tokenizer train FILE --column {read} --column {said})"
    mend = f"train {one}" if recipe.model.from_config else f"name another model, or --from-config and {one}"
    for own, key in ((read, "input_ids"), (said, "labels")):
        unknown = measure_unknown_share(tokenizer, features, key)
        what = f"the tokenizer does not know {unknown:.0%} of the tokens of '{own}'"
        if own == said and unknown > UNKNOWN_TARGET_LIMIT:
            raise DataError(f"{train.name}: {what}, and what it does not know no model can write", mend)
        if unknown > UNKNOWN_WARN_SHARE:
            console.print_message(f"{what}: {mend}")


def measure_token_share(token: int | None, some: Iterable[Sequence[Feature]]) -> float:
    """The share of one token in all of the features, or in a few thousand of each sequence that lie evenly in it."""
    import numpy as np

    found = total = 0
    for features in some:
        for feature in sample_evenly(features):
            ids = np.asarray(feature["input_ids"])
            found, total = found + int(np.count_nonzero(ids == token)), total + len(ids)
    return found / max(1, total)


def measure_unknown_share(tokenizer: PreTrainedTokenizerBase, features: Sequence[Feature], key: str) -> float:
    """The share of unknown tokens among those that stand for text.

    Special tokens and a lone mark of a space are left out: targets are short, and there would seem to be something.
    """
    counts = Counter(token for feature in sample_evenly(features) for token in feature[key])
    unknown = 0 if tokenizer.unk_token_id is None else counts.pop(tokenizer.unk_token_id, 0)
    special = set(tokenizer.all_special_ids)
    known = sum(times for token, times in counts.items() if token not in special and tokenizer.decode([token]).strip())
    return unknown / max(1, unknown + known)


def sample_evenly(features: Sequence[Feature]) -> Iterable[Feature]:
    """All features, or a few thousand that lie evenly among them: a corpus makes each when it is asked for."""
    return (features[at] for at in range(0, len(features), max(1, len(features) // MAX_SAMPLED_FEATURES)))
