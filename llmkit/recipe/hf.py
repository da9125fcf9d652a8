"""Keys of `train.hf`: the fields of TrainingArguments that a recipe has no key for."""

from __future__ import annotations

import ast
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from llmkit.schema import TrainSection

# Recipe keys that replace a field and have another name.
KEY_BY_HF_FIELD = {
    "output_dir": "output_dir",
    "bf16": "train.precision=bf16",
    "fp16": "train.precision=fp16",
    "bf16_full_eval": "eval.precision",
    "fp16_full_eval": "eval.precision",
    "per_device_eval_batch_size": "eval.batch_size",
    "metric_for_best_model": "eval.metrics (its first name)",
    "load_best_model_at_end": "train.eval_strategy (`no` keeps the last weights)",
    "label_smoothing_factor": "the task's own section (classify.label_smoothing)",
    "data_seed": "train.seed",
}
# Fields that llmkit's own trainer sets: passed on, they would be ignored silently or change the mathematics.
# fmt: off
RESERVED_HF_FIELDS = frozenset({
    "accelerator_config", "auto_find_batch_size", "average_tokens_across_devices", "batch_eval_metrics",
    "dataloader_drop_last", "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_pin_memory",
    "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_find_unused_parameters", "ddp_static_graph",
    "deepspeed", "disable_tqdm", "do_eval", "do_predict", "do_train", "enable_jit_checkpoint",
    "eval_accumulation_steps", "eval_do_concat_batches", "eval_on_start", "eval_use_gather_object", "fsdp",
    "fsdp_config", "greater_is_better", "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision",
    "hub_strategy", "hub_token", "ignore_data_skip", "include_for_metrics", "include_num_input_tokens_seen",
    "label_names", "length_column_name", "local_rank", "logging_first_step", "logging_nan_inf_filter",
    "logging_strategy", "optim_target_modules", "parallelism_config", "prediction_loss_only", "push_to_hub",
    "remove_unused_columns", "restore_callback_states_from_checkpoint", "resume_from_checkpoint",
    "save_on_each_node", "save_only_model", "torch_empty_cache_steps",
    "train_sampling_strategy", "use_cpu",
})
# fmt: on


@cache
def list_hf_fields() -> frozenset[str]:
    """List the fields of the installed TrainingArguments, from its source, as importing it takes seconds."""
    spec = find_spec("transformers")
    if spec is None or spec.origin is None:
        return frozenset()
    source = Path(spec.origin).with_name("training_args.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name == "TrainingArguments":
            return frozenset(
                line.target.id
                for line in node.body
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name)
            )
    return frozenset()


def explain_hf_key(key: str) -> str | None:
    """Explain why `key` is not allowed under `train.hf`; None if it is allowed."""
    from llmkit.errors import suggest_spelling

    if key in TrainSection.model_fields and key != "hf":
        return f"has a key of its own; write train.{key}"
    if key in KEY_BY_HF_FIELD:
        return f"has a key of its own; write {KEY_BY_HF_FIELD[key]}"
    if key in RESERVED_HF_FIELDS:
        return "llmkit sets it; leave it out"
    if key not in list_hf_fields():
        known = sorted(list_hf_fields() - RESERVED_HF_FIELDS - set(KEY_BY_HF_FIELD) - set(TrainSection.model_fields))
        return f"TrainingArguments has no such field; {suggest_spelling(key, known)}"
    return None
