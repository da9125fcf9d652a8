"""What a run makes ready before its first step: features, a head that knows the shares, and what is settled."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmkit import console
from llmkit.data.prepare import Splits
from llmkit.data.row_errors import counted
from llmkit.evaluation.evaluate import metric_names
from llmkit.schema import Recipe
from llmkit.tasks.base import Encoded, Task
from llmkit.training.setup import unknown_tokens
from llmkit.training.setup.model import all_fresh

if TYPE_CHECKING:
    from llmkit.models.load import Loaded


def encode(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits) -> dict[str, Encoded]:
    """The features of every split; says what share max_length cuts, and what the tokenizer does not know."""
    task.ask(metric_names(recipe, task))
    length = recipe.model.max_length
    encoded = {"train": task.encode_train(splits.train, loaded.tokenizer, length)}
    encoded |= {name: task.encode(rows, loaded.tokenizer, length) for name, rows in splits.others.items()}
    cut, rows = sum(one.cut for one in encoded.values()), sum(len(one.features) for one in encoded.values())
    unknown_tokens.note(recipe, task, loaded.tokenizer, splits.train, encoded)
    if cut:
        console.note(f"max_length {recipe.model.max_length} cuts {cut:,} of {counted(rows, 'text')} ({cut / rows:.1%})")
    if cut := sum(one.cut_targets for one in encoded.values()):
        most = f"{task.name}.max_target_length {task.longest_target}"
        console.note(f"{most} cuts {cut:,} of {counted(rows, 'target')} ({cut / rows:.1%})")
    return encoded


def start_head(task: Task, loaded: Loaded) -> None:
    """Let a fresh head begin with what can be said without reading, where the task knows it."""
    from llmkit.models import heads

    head = task.model()
    if head.start is not None and heads.begin_at(loaded.model, loaded.fresh, head.start):
        console.note("the fresh head starts from the shares in the training rows")
    used, words = head.used or (0, 0)
    if 2 * used < words and all_fresh(loaded):
        mend = "a tokenizer with a smaller --vocab-size spends the weights better"
        console.note(f"the training rows hold {used:,} of the tokenizer's {words:,} pieces: {mend}")


def settle(recipe: Recipe, splits: Splits, loaded: Loaded) -> tuple[Recipe, str]:
    """The recipe as it will be carried out (columns and precision in it), and a sentence on precision and threads."""
    import torch

    from llmkit.models.device import choose_precision, device

    config = loaded.model.config.get_text_config(decoder=True)
    hidden = getattr(config, "hidden_size", None) or getattr(config, "embedding_size", None) or 0
    precision, why = choose_precision(recipe.train.precision, hidden, device())
    said = f"precision: {precision} ({why}), scores in {recipe.eval.precision}; {torch.get_num_threads()} threads"
    console.note(said)
    if "validation" not in splits.others:
        console.note("no validation rows: the last weights are kept")
    data = recipe.data.model_copy(update={"columns": splits.columns})
    learning = recipe.train.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"data": data, "train": learning}), said
