"""Model files may not refer to files outside their folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.models.load import load_config, load_model, load_tokenizer
from llmkit.models.sources import files
from llmkit.models.sources.model_ref import ModelRef, resolve_model

HEAD = "AutoModelForSequenceClassification"
INDEX = "model.safetensors.index.json"
FIX = "do not use this model, or write plain file names there"
CopyTiny = Callable[..., Path]
ErrorMessage = Callable[..., str]


def test_weights_get_the_file_mode_of_the_config(tmp_path: Path) -> None:
    for name, mode in (("config.json", 0o640), ("model.safetensors", 0o600), ("other.txt", 0o600)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    files.match_weight_permissions(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "config.json": 0o640,
        "model.safetensors": 0o640,
        "other.txt": 0o600,
    }


def update_json(path: str, **fields: Any) -> None:
    """Update the fields of a JSON file, creating it if needed."""
    file = Path(path)
    content = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(content | fields))


def test_shards_outside_the_folder_are_never_read(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    from safetensors import safe_open

    copy_tiny()
    Path("outside").mkdir()
    shutil.move("m/model.safetensors", "outside/x.safetensors")
    with safe_open("outside/x.safetensors", "pt") as weights:
        update_json(f"m/{INDEX}", metadata={}, weight_map=dict.fromkeys(weights.keys(), "../outside/x.safetensors"))
    expected = f"m: {INDEX}: weight_map names '../outside/x.safetensors', which is not a file in the same folder; {FIX}"
    assert error_message(lambda: load_config(resolve_model("m"))) == expected
    assert error_message(lambda: load_model(resolve_model("m"), HEAD, {})) == expected


def test_shards_in_the_folder_are_read(copy_tiny: CopyTiny) -> None:
    from safetensors import safe_open

    copy_tiny()
    shutil.move("m/model.safetensors", "m/x.safetensors")
    with safe_open("m/x.safetensors", "pt") as weights:
        update_json(f"m/{INDEX}", metadata={}, weight_map=dict.fromkeys(weights.keys(), "x.safetensors"))
    assert load_model(resolve_model("m"), HEAD, {}).new_weights == ("classifier.bias", "classifier.weight")


@pytest.mark.parametrize("name", ["../x.json", "/etc/passwd", "a/b", "..\\x", "..", ".", "", "a\0b", 7, ["x"]])
def test_only_a_plain_file_name_is_accepted(name: Any) -> None:
    assert files.is_plain_file_name("model-00001-of-00002.safetensors")
    assert not files.is_plain_file_name(name)


@pytest.mark.parametrize(
    ("file", "key", "value", "label"),
    [
        ("config.json", "configuration_files", ["config.1.0.json", "config./../../y.json"], "'config./../../y.json'"),
        ("config.json", "transformers_weights", "/x.safetensors", "'/x.safetensors'"),
        (INDEX, "weight_map", {"a": "m.safetensors", "b": 7}, "7"),
    ],
)
def test_references_in_every_json_file_are_checked(
    file: str, key: str, value: Any, label: str, copy_tiny: CopyTiny, error_message: ErrorMessage
) -> None:
    copy_tiny()
    update_json(f"m/{file}", **{key: value})
    expected = f"m: {file}: {key} names {label}, which is not a file in the same folder; {FIX}"
    assert error_message(lambda: load_config(resolve_model("m"))) == expected


def test_a_tokenizer_outside_the_folder_is_never_read(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    copy_tiny()
    shutil.copy("m/tokenizer.json", "tokenizer.1.0.json")
    update_json("m/tokenizer_config.json", fast_tokenizer_files=["../tokenizer.1.0.json"])
    assert error_message(lambda: load_tokenizer(resolve_model("m"))) == (
        "m: tokenizer_config.json: fast_tokenizer_files names '../tokenizer.1.0.json', "
        f"which is not a file in the same folder; {FIX}"
    )


def test_referenced_json_files_are_checked_too(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    copy_tiny(transformers_weights="own.safetensors.index.json")
    update_json("m/own.safetensors.index.json", weight_map={"a": "/x"}, configuration_files=["config.json"])
    assert error_message(lambda: load_config(resolve_model("m"))) == (
        f"m: own.safetensors.index.json: weight_map names '/x', which is not a file in the same folder; {FIX}"
    )


def test_files_from_the_hub_are_checked(
    copy_tiny: CopyTiny, error_message: ErrorMessage, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_tiny(transformers_weights="../x.safetensors")
    monkeypatch.setattr(files, "find_cached_file", lambda ref, file: f"m/{file}" if Path("m", file).exists() else None)
    assert error_message(lambda: load_config(ModelRef("org/m", "org/m"))) == (
        f"org/m: config.json: transformers_weights names '../x.safetensors', which is not a file in the same folder; {FIX}"
    )


def test_an_adapter_next_to_full_weights_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    update_json(str(copy_tiny() / "adapter_config.json"), base_model_name_or_path="/elsewhere")
    expected = "m: an adapter next to its full weights; merge it with PEFT, or remove it"
    assert error_message(lambda: load_model(resolve_model("m"), HEAD, {})) == expected
