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


def check_strategy(strategy: str, device: str, world_size: int) -> None:
    """Raise RecipeError if the strategy does not work on this type of device, or with a single process."""
    if strategy == "ddp":
        return
    if device != "cuda":
        no_gpu = f"DeepSpeed needs NVIDIA GPUs, and this run is on {device}"
        why = {
            "fsdp2": f"Accelerate shards only on accelerators; on {device} it would silently run "
            "DistributedDataParallel",
            "deepspeed-zero2": no_gpu,
            "deepspeed-zero3": no_gpu,
        }[strategy]
        raise RecipeError(f"train.strategy: {strategy}: {why}", "write train.strategy=ddp")
    if world_size == 1:
        what = f"train.strategy: {strategy}: a single process cannot shard the model"
        raise RecipeError(what, "start several with --processes N, or write train.strategy=ddp")
    if strategy.startswith("deepspeed") and find_spec("deepspeed") is None:
        raise RecipeError(f"train.strategy: {strategy}: deepspeed is not installed", "pip install deepspeed")


def load_strategy_profile(strategy: str) -> dict[str, Any]:
    """Load the strategy's profile for Accelerate's launcher."""
    from ruamel.yaml import YAML

    path = catalog.get_recipes_folder() / "profiles" / f"{strategy}.yaml"
    profile: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return profile


def build_strategy_arguments(strategy: str) -> dict[str, Any]:
    """Build the strategy's TrainingArguments from its profile, so that they are the same for every launcher."""
    if strategy == "fsdp2":
        return {"fsdp": True, "fsdp_config": dict(load_strategy_profile(strategy)["fsdp_config"])}
    if strategy.startswith("deepspeed"):
        return {"deepspeed": build_deepspeed_config(load_strategy_profile(strategy)["deepspeed_config"])}
    return {}


def build_deepspeed_config(profile: Mapping[str, Any]) -> dict[str, Any]:
    """Build DeepSpeed's config from the profile; the Trainer fills in each `auto` from the recipe."""
    return {
        "zero_optimization": {
            "stage": profile["zero_stage"],
            "offload_optimizer": {"device": profile["offload_optimizer_device"]},
            "offload_param": {"device": profile["offload_param_device"]},
            "stage3_gather_16bit_weights_on_model_save": profile["zero3_save_16bit_model"],
        },
        "gradient_accumulation_steps": profile["gradient_accumulation_steps"],
        "train_micro_batch_size_per_gpu": "auto",
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": "auto"},
    }


def check_strategy_wrapper(model: Any, strategy: str, world_size: int) -> None:
    """Raise InternalError if several processes do not train by the requested strategy."""
    names = [one.__name__ for one in type(model).__mro__]
    if world_size > 1 and STRATEGY_WRAPPERS[strategy] not in names:
        what = f"train.strategy: {strategy} was requested, but {names[0]} is running"
        raise InternalError(what, "report this as a bug")
