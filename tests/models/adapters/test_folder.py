"""What an adapter's folder may say of its base, and what is answered where it says too little."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from llmkit.errors import MissingInputError, ModelError, NetworkError
from llmkit.models.adapters import folder
from llmkit.models.load import load_config
from llmkit.models.sources.model_ref import resolve_model

Refused = Callable[..., str]


def adapter(**fields: object) -> Path:
    """The folder `a` with an adapter_config.json alone."""
    Path("a").mkdir()
    Path("a/adapter_config.json").write_text(json.dumps({"peft_type": "LORA"} | fields))
    return Path("a")


@pytest.mark.parametrize("text", ['{"base_model_name_or_path": null, "peft_type": "LORA"}', "{}", "[", "[]"])
def test_an_adapter_that_names_no_base_is_refused(text: str, refused: Refused) -> None:
    Path("a").mkdir()
    Path("a/adapter_config.json").write_text(text)
    said = "a: an adapter that names no base; merge it with PEFT, or name a whole model"
    assert refused(lambda: load_config(resolve_model("a")), ModelError) == said


def test_a_base_that_the_hub_does_not_give_is_named(refused: Refused) -> None:
    adapter(base_model_name_or_path="some/base", task_type="SEQ_CLS")
    Path("a/adapter_model.safetensors").touch()
    said = refused(lambda: load_config(resolve_model("a")), NetworkError)
    assert said.startswith("some/base: no such local folder, and the Hub did not give it: ")


def test_a_base_that_is_gone_is_named_as_it_was_given(refused: Refused) -> None:
    adapter(base_model_name_or_path="/gone/far/base")
    Path("a/base.json").write_text(json.dumps({"given": "../models/base"}))
    assert refused(lambda: load_config(resolve_model("a")), MissingInputError) == (
        "a: an adapter, and its base ../models/base is not there (it was at /gone/far/base); "
        "put it back, or name where it is with --base FOLDER of eval and predict"
    )


def test_a_base_of_this_machine_is_never_looked_for_on_the_hub(refused: Refused) -> None:
    adapter(base_model_name_or_path="/gone/bert")
    Path("a/base.json").write_text(json.dumps({"given": "bert"}))
    said = refused(lambda: load_config(resolve_model("a")), MissingInputError)
    assert said.startswith("a: an adapter, and its base bert is not there (it was at /gone/bert); ")


def test_no_file_of_the_folder_points_out_of_it(tiny: str, refused: Refused) -> None:
    adapter(base_model_name_or_path=tiny)
    Path("a/model_config.json").write_text(
        json.dumps({"model_type": "bert", "transformers_weights": "../x.safetensors"})
    )
    assert refused(lambda: load_config(resolve_model("a")), ModelError) == (
        "a: model_config.json: transformers_weights names '../x.safetensors', which is no file beside it; "
        "do not use this model, or write plain file names there"
    )


def test_the_hash_is_of_every_file_of_weights(tiny: str) -> None:
    found = folder.hash_weight_files(resolve_model(tiny))
    assert list(found) == ["model.safetensors"]
    assert len(found["model.safetensors"]) == 64
