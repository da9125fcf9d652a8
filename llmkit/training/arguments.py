"""Builds TrainingArguments from the recipe's `train:` section."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from llmkit.errors import RecipeError
from llmkit.runs import distributed
from llmkit.schema import Recipe
from llmkit.training.processes import strategies
from llmkit.training.setup.step_size import count_rows_per_step

# Keys that StepTrainer reads itself, or that have another name in TrainingArguments.
OWN_KEYS = frozenset(
    {
        "batch_size",
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "max_tokens_per_pass",
        "precision",
        "strategy",
        "save_total_limit",
        "fast_path",
        "hf",
    }
)


def build_training_arguments(
    recipe: Recipe, folder: Path, precision: str, first_metric: str, higher_is_better: bool = True
) -> TrainingArguments:
    """Build the TrainingArguments. Gradient accumulation is 1: StepTrainer splits a step into micro-batches itself.

    Raises RecipeError if TrainingArguments rejects a value under `train.hf`.
    """
    train, processes = recipe.train, distributed.world_size()
    keep_best = train.eval_strategy != "no" and train.save_strategy != "no"
    fields = {field.name for field in dataclasses.fields(TrainingArguments)}
    values = {key: value for key, value in train if key not in OWN_KEYS and value is not None}
    if missing := sorted(values.keys() - fields):
        raise RecipeError(
            f"the installed transformers has no {', '.join(missing)}", "install a version that pyproject names"
        )
    fixed: dict[str, Any] = {
        "output_dir": str(folder / "checkpoints"),
        "per_device_train_batch_size": math.ceil(count_rows_per_step(train, processes) / processes),
        "per_device_eval_batch_size": recipe.eval.batch_size,
        "gradient_accumulation_steps": 1,
        "bf16": precision == "bf16",
        "fp16": precision == "fp16",
        "use_cpu": not (torch.cuda.is_available() or torch.backends.mps.is_available()),
        "load_best_model_at_end": keep_best,
        "metric_for_best_model": first_metric if keep_best else None,
        "greater_is_better": higher_is_better if keep_best else None,
        "disable_tqdm": True,
        "logging_nan_inf_filter": False,  # the filter hides a NaN loss and lets the optimizer step on it
        "remove_unused_columns": False,
        "average_tokens_across_devices": False,
    }
    if train.max_steps < 0:
        values.pop("max_steps", None)
    if processes > 1:
        fixed |= strategies.build_strategy_arguments(train.strategy)
        if not distributed.is_main_process():
            fixed["report_to"] = "none"
    try:
        arguments = TrainingArguments(**{"report_to": "none"} | values | dict(train.hf) | fixed)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"train.hf: {' '.join(str(error).split())}", "fix the value") from error
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one process uses one device; DataParallel would split the steps again
    return arguments
