"""Saving a trained model and proving that what was saved is what was trained."""

from __future__ import annotations

import shutil

import torch
import transformers
from safetensors import SafetensorError
from transformers import PreTrainedModel

from llmkit.data.rows import Rows
from llmkit.errors import DiskError, InternalError
from llmkit.models import load as models
from llmkit.models.heads import rescale
from llmkit.models.load import Loaded
from llmkit.models.names import resolve
from llmkit.recipe.schema import Recipe
from llmkit.runs.folder import RunFolder
from llmkit.tasks.base import Task

PROBE = 8  # rows that the saved model must answer as the trained one did
SAME = 1e-6  # how far a logit may move when a model is saved and loaded again


def save_and_prove(recipe: Recipe, task: Task, loaded: Loaded, rows: Rows, folder: RunFolder) -> PreTrainedModel:
    """Write model/, load it and its tokenizer again in plain transformers, and compare: tokens, logits, label names.

    Returns the reloaded model in fp32 and eval mode: it is the one to judge. Raises InternalError where it is not the
    trained one, DiskError where it could not be written.
    """
    target = folder / "model"
    shutil.rmtree(target, ignore_errors=True)  # of the same run, killed while it saved
    loaded.model.config.__dict__.pop("thresholds", None)  # of the run that the weights came from
    loaded.model.config.update(task.model().config)  # with what was tuned on validation
    if (units := task.model().units) is not None:
        mean, spread = units
        rescale(loaded.model, spread, mean)
    try:
        models.save(loaded.model, loaded.tokenizer, target, recipe.model.max_length)
    except (OSError, SafetensorError) as fault:
        raise DiskError(
            f"{target}: {getattr(fault, 'strerror', None) or fault}", "free some space and run again"
        ) from fault
    loaded.model.eval()
    with models.quiet():
        auto_class = getattr(transformers, task.model().auto_class)
        again = auto_class.from_pretrained(target, dtype=recipe.model.dtype).to(loaded.model.device).eval()
        tokenizer = models.load_tokenizer(resolve(str(target)))
    some = rows.take(range(min(PROBE, len(rows))))
    features = task.encode(some, loaded.tokenizer, recipe.model.max_length).features
    if task.encode(some, tokenizer, recipe.model.max_length).features != features:
        raise InternalError(f"{target}: the reloaded tokenizer gives other tokens", "report this as a bug")
    probe = task.collator(loaded.tokenizer)(features[:PROBE])  # a document may have many
    probe = {name: tensor.to(loaded.model.device) for name, tensor in probe.items()}
    inputs = task.inputs(loaded.model, probe)
    with torch.inference_mode():
        logits = loaded.model(**inputs).logits
        moved, largest = float((again(**inputs).logits - logits).abs().max()), float(logits.abs().max())
    if not moved <= SAME * max(1.0, largest):
        raise InternalError(f"{target}: reloaded logits differ by {moved:.1e}", "report this as a bug")
    for field in task.model().config:
        if getattr(again.config, field) != getattr(loaded.model.config, field):
            raise InternalError(f"{target}: '{field}' of its config did not survive saving", "report this as a bug")
    task.adopt(again.config)  # from here on as any user of the folder
    return again.float()


def room(recipe: Recipe, model: PreTrainedModel) -> int:
    """The bytes that a run will write: model/, and checkpoints of weights and as a rule two numbers more for each."""
    trained = sum(weight.numel() * weight.element_size() for weight in model.parameters() if weight.requires_grad)
    # The best and the last at least, the best of an older one that stays, and one that is being written.
    checkpoints = max(2, recipe.train.save_total_limit) + 2
    return size_of(model) + checkpoints * min(size_of(model), trained) + 2 * checkpoints * trained


def size_of(model: PreTrainedModel) -> int:
    """The bytes of a model's weights."""
    return sum(weight.numel() * weight.element_size() for weight in model.parameters())
