"""Adapter folders: finding the base model, and the errors for adapters without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.errors import MissingInputError, ModelError, NetworkError
from llmkit.models.adapters import folder
from llmkit.models.load import load_config
from llmkit.models.sources.model_ref import resolve_model

ErrorMessage = Callable[..., str]


def write_adapter(**fields: object) -> Path:
    """Write the folder `a` with only an adapter_config.json."""
    Path("a").mkdir()
    Path("a/adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | fields))
    return Path("a")


@pytest.mark.parametrize("text", ['{"base_model_name_or_path": null, "peft_type": "LORA"}', "{}", "[", "[]"])
def test_an_adapter_without_a_base_name_is_refused(text: str, error_message: ErrorMessage) -> None:
    Path("a").mkdir()
    Path("a/adapter_config.json").write_text(text)
    expected = "a: an adapter that names no base model; merge it with PEFT, or name a full model"
    assert error_message(lambda: load_config(resolve_model("a")), ModelError) == expected


def test_a_base_missing_on_the_hub_is_reported(error_message: ErrorMessage) -> None:
    write_adapter(base_model_name_or_path="some/base", task_type="SEQ_CLS")
    Path("a/adapter_model.safetensors").touch()
    message = error_message(lambda: load_config(resolve_model("a")), NetworkError)
    assert message.startswith("some/base: no such local folder, and fetching it from the Hub failed: ")


def test_a_missing_base_is_reported_as_it_was_given(error_message: ErrorMessage) -> None:
    write_adapter(base_model_name_or_path="/gone/far/base")
    Path("a/base.json").write_text(json.dumps({"given": "../models/base"}))
    assert error_message(lambda: load_config(resolve_model("a")), MissingInputError) == (
        "a: an adapter, and its base ../models/base is missing (it was at /gone/far/base); "
        "restore it, or pass its folder with --base FOLDER of eval and predict"
    )


def test_a_local_base_is_never_tried_on_the_hub(error_message: ErrorMessage) -> None:
    write_adapter(base_model_name_or_path="/gone/bert")
    Path("a/base.json").write_text(json.dumps({"given": "bert"}))
    message = error_message(lambda: load_config(resolve_model("a")), MissingInputError)
    assert message.startswith("a: an adapter, and its base bert is missing (it was at /gone/bert); ")


def test_files_of_an_adapter_may_not_refer_outside(tiny: str, error_message: ErrorMessage) -> None:
    write_adapter(base_model_name_or_path=tiny)
    Path("a/model_config.json").write_text(
        json.dumps({"model_type": "bert", "transformers_weights": "../x.safetensors"})
    )
    assert error_message(lambda: load_config(resolve_model("a")), ModelError) == (
        "a: model_config.json: transformers_weights names '../x.safetensors', which is not a file in the same folder; "
        "do not use this model, or write plain file names there"
    )


def test_every_weight_file_is_hashed(tiny: str) -> None:
    hashes = folder.hash_weight_files(resolve_model(tiny))
    assert list(hashes) == ["model.safetensors"]
    assert len(hashes["model.safetensors"]) == 64
