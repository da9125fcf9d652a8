"""How a model lies on several devices: whole on each, or in shares; the profiles that Accelerate's launcher reads."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from llmkit.errors import InternalError, RecipeError
from llmkit.recipe import catalog

# What each strategy wraps the model in, by the class's name.
STRATEGY_WRAPPERS = {
    "ddp": "DistributedDataParallel",
    "fsdp2": "FSDPModule",
    "deepspeed-zero2": "DeepSpeedEngine",
    "deepspeed-zero3": "DeepSpeedEngine",
}
# Those whose weights lie in shares: all processes must go through the model together.
SHARDED_STRATEGIES = ("fsdp2", "deepspeed-zero3")
# Those whose optimizer only a pickle could hold: a run that was ended begins anew.
NON_RESUMABLE_STRATEGIES = ("deepspeed-zero2", "deepspeed-zero3")


def check_strategy(strategy: str, on: str, size: int) -> None:
    """Raise RecipeError where the strategy is none for this machine (`on`: its kind of device) or for one process."""
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
    """The profile as Accelerate's launcher reads it."""
    from ruamel.yaml import YAML

    path = catalog.get_recipes_folder() / "profiles" / f"{strategy}.yaml"
    found: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    return found


def build_strategy_arguments(strategy: str) -> dict[str, Any]:
    """What TrainingArguments is told of the strategy: the same as the profile says, whatever started the processes."""
    if strategy == "fsdp2":
        return {"fsdp": True, "fsdp_config": dict(load_strategy_profile(strategy)["fsdp_config"])}
    if strategy.startswith("deepspeed"):
        return {"deepspeed": build_deepspeed_config(load_strategy_profile(strategy)["deepspeed_config"])}
    return {}


def build_deepspeed_config(about: Mapping[str, Any]) -> dict[str, Any]:
    """DeepSpeed's own config; `auto` is what the Trainer fills in from the recipe."""
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
    """Raise InternalError where several processes do not train by the strategy that was asked for."""
    names = [one.__name__ for one in type(model).__mro__]
    if size > 1 and STRATEGY_WRAPPERS[strategy] not in names:
        what = f"train.strategy: {strategy} was asked for, and {names[0]} is what runs"
        raise InternalError(what, "report this as a bug")
