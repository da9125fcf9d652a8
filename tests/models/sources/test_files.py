"""No file of a model leads out of its folder."""

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
MEND = "do not use this model, or write plain file names there"
Copied = Callable[..., Path]
Refused = Callable[..., str]


def test_weights_are_for_those_who_may_read_the_config(tmp_path: Path) -> None:
    for name, mode in (("config.json", 0o640), ("model.safetensors", 0o600), ("other.txt", 0o600)):
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    files.match_weight_permissions(tmp_path)
    assert {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {
        "config.json": 0o640,
        "model.safetensors": 0o640,
        "other.txt": 0o600,
    }


def put(path: str, **fields: Any) -> None:
    """Write `fields` over those of a JSON file, which need not be there yet."""
    file = Path(path)
    about = json.loads(file.read_text()) if file.exists() else {}
    file.write_text(json.dumps(about | fields))


def test_shards_outside_the_folder_are_never_read(copied: Copied, refused: Refused) -> None:
    from safetensors import safe_open

    copied()
    Path("outside").mkdir()
    shutil.move("m/model.safetensors", "outside/x.safetensors")
    with safe_open("outside/x.safetensors", "pt") as held:
        put(f"m/{INDEX}", metadata={}, weight_map=dict.fromkeys(held.keys(), "../outside/x.safetensors"))
    said = f"m: {INDEX}: weight_map names '../outside/x.safetensors', which is no file beside it; {MEND}"
    assert refused(lambda: load_config(resolve_model("m"))) == said
    assert refused(lambda: load_model(resolve_model("m"), HEAD, {})) == said


def test_shards_in_the_folder_are_read(copied: Copied) -> None:
    from safetensors import safe_open

    copied()
    shutil.move("m/model.safetensors", "m/x.safetensors")
    with safe_open("m/x.safetensors", "pt") as held:
        put(f"m/{INDEX}", metadata={}, weight_map=dict.fromkeys(held.keys(), "x.safetensors"))
    assert load_model(resolve_model("m"), HEAD, {}).new_weights == ("classifier.bias", "classifier.weight")


@pytest.mark.parametrize("pointed", ["../x.json", "/etc/passwd", "a/b", "..\\x", "..", ".", "", "a\0b", 7, ["x"]])
def test_only_the_name_of_a_file_is_bare(pointed: Any) -> None:
    assert files.is_plain_file_name("model-00001-of-00002.safetensors")
    assert not files.is_plain_file_name(pointed)


@pytest.mark.parametrize(
    ("file", "key", "value", "shown"),
    [
        ("config.json", "configuration_files", ["config.1.0.json", "config./../../y.json"], "'config./../../y.json'"),
        ("config.json", "transformers_weights", "/x.safetensors", "'/x.safetensors'"),
        (INDEX, "weight_map", {"a": "m.safetensors", "b": 7}, "7"),
    ],
)
def test_a_pointer_of_any_file_is_looked_at(
    file: str, key: str, value: Any, shown: str, copied: Copied, refused: Refused
) -> None:
    copied()
    put(f"m/{file}", **{key: value})
    said = f"m: {file}: {key} names {shown}, which is no file beside it; {MEND}"
    assert refused(lambda: load_config(resolve_model("m"))) == said


def test_a_tokenizer_from_outside_is_never_read(copied: Copied, refused: Refused) -> None:
    copied()
    shutil.copy("m/tokenizer.json", "tokenizer.1.0.json")
    put("m/tokenizer_config.json", fast_tokenizer_files=["../tokenizer.1.0.json"])
    assert refused(lambda: load_tokenizer(resolve_model("m"))) == (
        "m: tokenizer_config.json: fast_tokenizer_files names '../tokenizer.1.0.json', "
        f"which is no file beside it; {MEND}"
    )


def test_a_file_that_a_file_points_to_is_looked_at_too(copied: Copied, refused: Refused) -> None:
    copied(transformers_weights="own.safetensors.index.json")
    put("m/own.safetensors.index.json", weight_map={"a": "/x"}, configuration_files=["config.json"])
    assert refused(lambda: load_config(resolve_model("m"))) == (
        f"m: own.safetensors.index.json: weight_map names '/x', which is no file beside it; {MEND}"
    )


def test_files_of_the_hub_are_looked_at(copied: Copied, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    copied(transformers_weights="../x.safetensors")
    monkeypatch.setattr(files, "cached", lambda name, file: f"m/{file}" if Path("m", file).exists() else None)
    assert refused(lambda: load_config(ModelRef("org/m", "org/m"))) == (
        f"org/m: config.json: transformers_weights names '../x.safetensors', which is no file beside it; {MEND}"
    )


def test_an_adapter_is_not_put_over_the_weights_unasked(copied: Copied, refused: Refused) -> None:
    put(str(copied() / "adapter_config.json"), base_model_name_or_path="/elsewhere")
    said = "m: an adapter lies beside its weights; merge it with PEFT, or remove it"
    assert refused(lambda: load_model(resolve_model("m"), HEAD, {})) == said
