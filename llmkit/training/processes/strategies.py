"""Distributed strategies, replicated (DDP) or sharded (FSDP2, DeepSpeed), and their Accelerate launch profiles."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from llmkit.errors import InternalError, RecipeError
from llmkit.recipe import catalog

# The class that each strategy wraps the model in.
STRATEGY_WRAPPERS = {
    "ddp": "DistributedDataParallel",
    "fsdp2": "FSDPModule",
    "deepspeed-zero2": "DeepSpeedEngine",
    "deepspeed-zero3": "DeepSpeedEngine",
}
# Strategies with sharded weights: all ranks must run the same forward passes.
SHARDED_STRATEGIES = ("fsdp2", "deepspeed-zero3")
# Strategies whose optimizer state needs a pickle: an interrupted run starts again from its first step.
NON_RESUMABLE_STRATEGIES = ("deepspeed-zero2", "deepspeed-zero3")


def check_strategy(strategy: str, on: str, size: int) -> None:
    """Raise RecipeError if the strategy does not work on this type of device, or with a single process."""
    if strategy == "ddp":
        return
    if on != "cuda":
        why = {
            "fsdp2": f"Accelerate shards only on accelerators; on {on} it would silently run DistributedDataParallel",
            "deepspeed-zero2": f"DeepSpeed needs NVIDIA GPUs, and this run is on {on}",
            "deepspeed-zero3": f"DeepSpeed needs NVIDIA GPUs, and this run is on {on}",
        }[strategy]
        raise RecipeError(f"train.strategy: {strategy}: {why}", "write train.strategy=ddp")
    if size == 1:
        what = f"train.strategy: {strategy}: one process has nothing to share with"
        raise RecipeError(what, "start several with --processes N, or write train.strategy=ddp")
    if strategy.startswith("deepspeed") and find_spec("deepspeed") is None:
        raise RecipeError(f"train.strategy: {strategy}: deepspeed is not installed", "pip install deepspeed")


def load_strategy_profile(strategy: str) -> dict[str, Any]:
    """Load the strategy's profile for Accelerate's launcher."""
    from ruamel.yaml import YAML

    path = catalog.get_recipes_folder() / "profiles" / f"{strategy}.yaml"
    found: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return found


def build_strategy_arguments(strategy: str) -> dict[str, Any]:
    """Build the strategy's TrainingArguments from its profile, so that they are the same for every launcher."""
    if strategy == "fsdp2":
        return {"fsdp": True, "fsdp_config": dict(load_strategy_profile(strategy)["fsdp_config"])}
    if strategy.startswith("deepspeed"):
        return {"deepspeed": build_deepspeed_config(load_strategy_profile(strategy)["deepspeed_config"])}
    return {}


def build_deepspeed_config(about: Mapping[str, Any]) -> dict[str, Any]:
    """Build DeepSpeed's config from the profile; the Trainer fills in each `auto` from the recipe."""
    return {
        "zero_optimization": {
            "stage": about["zero_stage"],
            "offload_optimizer": {"device": about["offload_optimizer_device"]},
            "offload_param": {"device": about["offload_param_device"]},
            "stage3_gather_16bit_weights_on_model_save": about["zero3_save_16bit_model"],
        },
        "gradient_accumulation_steps": about["gradient_accumulation_steps"],
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
    }


def check_strategy_wrapper(model: Any, strategy: str, size: int) -> None:
    """Raise InternalError if several processes do not train by the requested strategy."""
    names = [one.__name__ for one in type(model).__mro__]
    if size > 1 and STRATEGY_WRAPPERS[strategy] not in names:
        what = f"train.strategy: {strategy} was asked for, and {names[0]} is what runs"
        raise InternalError(what, "report this as a bug")
