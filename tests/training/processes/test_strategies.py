"""Tests the distributed strategies: rejected where they do not work, with profiles that Accelerate reads."""

from __future__ import annotations

import pytest
import torch

from llmkit.errors import InternalError, RecipeError
from llmkit.recipe import catalog
from llmkit.recipe.load import load_recipe
from llmkit.training.processes import strategies

NAMES = list(strategies.STRATEGY_WRAPPERS)
NO_SHARDING, USE_DDP = "Accelerate shards only on accelerators", "write train.strategy=ddp"


@pytest.mark.parametrize(
    ("strategy", "device", "world_size", "message"),
    [
        ("fsdp2", "cpu", 2, f"{NO_SHARDING}; on cpu it would silently run DistributedDataParallel; {USE_DDP}"),
        ("deepspeed-zero2", "cpu", 2, f"DeepSpeed needs NVIDIA GPUs, and this run is on cpu; {USE_DDP}"),
        ("deepspeed-zero3", "mps", 2, f"DeepSpeed needs NVIDIA GPUs, and this run is on mps; {USE_DDP}"),
        (
            "fsdp2",
            "cuda",
            1,
            f"a single process cannot shard the model; start several with --processes N, or {USE_DDP}",
        ),
    ],
)
def test_unsupported_strategy_is_rejected(strategy: str, device: str, world_size: int, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        strategies.check_strategy(strategy, device, world_size)
    assert str(caught.value) == f"train.strategy: {strategy}: {message}"
    assert caught.value.exit_code == 78


def test_wrong_wrapper_is_an_internal_error() -> None:
    with pytest.raises(InternalError) as caught:
        strategies.check_strategy_wrapper(torch.nn.Linear(1, 1), "ddp", 2)
    assert str(caught.value) == "train.strategy: ddp was requested, but Linear is running; report this as a bug"
    strategies.check_strategy_wrapper(torch.nn.Linear(1, 1), "ddp", 1)


@pytest.mark.parametrize("name", NAMES)
def test_accelerate_reads_each_profile(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    config = load_config_from_file(str(catalog.get_recipes_folder() / "profiles" / f"{name}.yaml"))
    kinds = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed-zero2": "DEEPSPEED", "deepspeed-zero3": "DEEPSPEED"}
    assert config.distributed_type == kinds[name]


def test_profiles_are_not_listed_as_recipes() -> None:
    assert not [name for name in catalog.list_recipes() if name.startswith("profiles/")]
    assert sorted(path.stem for path in (catalog.get_recipes_folder() / "profiles").iterdir()) == sorted(NAMES)


def test_trainer_arguments_equal_the_profile() -> None:
    assert strategies.build_strategy_arguments("ddp") == {}
    fsdp = strategies.build_strategy_arguments("fsdp2")
    assert fsdp["fsdp"] is True
    assert fsdp["fsdp_config"]["fsdp_version"] == 2
    assert fsdp["fsdp_config"]["fsdp_state_dict_type"] == "FULL_STATE_DICT"
    for stage in (2, 3):
        config = strategies.build_strategy_arguments(f"deepspeed-zero{stage}")["deepspeed"]
        assert config["zero_optimization"]["stage"] == stage
        assert config["gradient_accumulation_steps"] == 1


def test_schema_has_the_same_strategies() -> None:
    for name in NAMES:
        assert load_recipe(None, [f"train.strategy={name}"], task="classify").train.strategy == name
