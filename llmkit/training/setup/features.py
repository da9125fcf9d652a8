"""Last preparation before training: encodes the splits, initializes the output bias, applies the precision."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmkit import console
from llmkit.data.prepare import Splits
from llmkit.data.row_errors import pluralize
from llmkit.evaluation.evaluate import choose_metrics
from llmkit.schema import Recipe
from llmkit.tasks.base import EncodedRows, Task
from llmkit.training.setup import unknown_tokens
from llmkit.training.setup.model import is_from_scratch

if TYPE_CHECKING:
    from llmkit.models.load import LoadedModel


def encode_splits(recipe: Recipe, task: Task, loaded: LoadedModel, splits: Splits) -> dict[str, EncodedRows]:
    """Encode every split, and print the share of truncated texts and of unknown tokens."""
    task.set_metrics(choose_metrics(recipe, task))
    length = recipe.model.max_length
    encoded = {"train": task.encode_train(splits.train, loaded.tokenizer, length)}
    encoded |= {name: task.encode(rows, loaded.tokenizer, length) for name, rows in splits.holdout.items()}
    rows = sum(len(one.features) for one in encoded.values())
    unknown_tokens.check_unknown_tokens(recipe, task, loaded.tokenizer, splits.train, encoded)
    if truncated := sum(one.num_truncated for one in encoded.values()):
        share = f"{truncated:,} of {pluralize(rows, 'text')} ({truncated / rows:.1%})"
        console.print_message(f"max_length {recipe.model.max_length} truncates {share}")
    if truncated := sum(one.num_truncated_targets for one in encoded.values()):
        share = f"{truncated:,} of {pluralize(rows, 'target')} ({truncated / rows:.1%})"
        console.print_message(f"{task.name}.max_target_length {task.max_target_length} truncates {share}")
    return encoded


def init_output_head(task: Task, loaded: LoadedModel) -> None:
    """Initialize the output bias of a new head from the training rows, if the task defines one."""
    from llmkit.models import heads

    head = task.head()
    if head.output_bias_init is not None and heads.init_output_bias(
        loaded.model, loaded.new_weights, head.output_bias_init
    ):
        console.print_message("the output bias of the new head is initialized from the training rows")
    used, vocab_size = head.vocab_use or (0, 0)
    if 2 * used < vocab_size and is_from_scratch(loaded):
        fix = "a tokenizer with a smaller --vocab-size wastes fewer weights"
        console.print_message(f"the training rows use {used:,} of the tokenizer's {vocab_size:,} tokens: {fix}")


def resolve_settings(recipe: Recipe, splits: Splits, loaded: LoadedModel) -> tuple[Recipe, str]:
    """Return the recipe with resolved columns and precision, and the message on precision and threads."""
    import torch

    from llmkit.models.device import choose_precision, get_device

    config = loaded.model.config.get_text_config(decoder=True)
    hidden = getattr(config, "hidden_size", None) or getattr(config, "embedding_size", None) or 0
    precision, why = choose_precision(recipe.train.precision, hidden, get_device())
    message = f"precision: {precision} ({why}), scores in {recipe.eval.precision}; {torch.get_num_threads()} threads"
    console.print_message(message)
    if "validation" not in splits.holdout:
        console.print_message("no validation rows: the last weights are kept")
    data = recipe.data.model_copy(update={"columns": splits.columns})
    train = recipe.train.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"data": data, "train": train}), message
