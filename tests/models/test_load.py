"""Loading and saving of models and tokenizers, and the errors for those that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llmkit.errors import NetworkError, RecipeError
from llmkit.models import load
from llmkit.models.load import LoadedModel, load_config, load_model, load_tokenizer
from llmkit.models.sources import hub
from llmkit.models.sources.model_ref import resolve_model
from llmkit.models.weight_names import summarize_modules
from llmkit.testing import ENCODER_CONFIGS, make_tiny_model, make_tiny_tokenizer

HEAD = "AutoModelForSequenceClassification"
CopyTiny = Callable[..., Path]
ErrorMessage = Callable[..., str]


def load_classifier(folder: Path | str, **overrides: Any) -> LoadedModel:
    """Load the model of a folder with a classification head."""
    return load_model(resolve_model(str(folder)), HEAD, overrides)


@pytest.mark.parametrize("family", ENCODER_CONFIGS)
def test_every_family_gets_a_head_and_predicts(family: str) -> None:
    make_tiny_model("m", family)
    loaded = load_classifier("m", num_labels=3)
    assert loaded.model.dtype == torch.float32
    assert all(key.startswith(("classifier", "pre_classifier", "head")) for key in loaded.new_weights)
    loaded.model.eval()
    batch = loaded.tokenizer(["a fine film"], return_tensors="pt")
    assert loaded.model(**batch).logits.shape == (1, 3)


def test_new_weights_are_listed(tiny: str, tiny_classifier: str) -> None:
    assert load_classifier(tiny).new_weights == ("classifier.bias", "classifier.weight")
    assert load_classifier(tiny_classifier).new_weights == ()
    assert (
        summarize_modules(("classifier.bias", "classifier.weight", "pooler.dense.bias", "scale"))
        == "classifier, pooler.dense, scale"
    )


def test_a_head_of_another_size_is_reinitialized(tiny_classifier: str) -> None:
    assert load_classifier(tiny_classifier, num_labels=5).new_weights == ("classifier.bias", "classifier.weight")


def test_a_half_precision_checkpoint_loads_in_float32() -> None:
    make_tiny_model("m", auto_class=HEAD)
    model = AutoModelForSequenceClassification.from_pretrained("m", dtype=torch.float32)
    model.half().save_pretrained("m")
    assert AutoModelForSequenceClassification.from_pretrained("m").dtype == torch.float16
    assert {weight.dtype for weight in load_classifier("m").model.parameters()} == {torch.float32}
    assert load_model(resolve_model("m"), HEAD, {}, dtype="bfloat16").model.dtype == torch.bfloat16


def test_strict_loading_refuses_missing_weights(tiny: str, error_message: ErrorMessage) -> None:
    message = error_message(lambda: load_model(resolve_model(tiny), HEAD, {}, strict=True))
    assert message == (
        f"{tiny}: 2 weights are missing: classifier.bias, classifier.weight; "
        "its head would be random; name a model that was trained for the task"
    )


def test_missing_weights_are_counted_in_the_error(
    tiny_classifier: str, error_message: ErrorMessage, own_folder: Path
) -> None:
    from safetensors.torch import load_file, save_file

    model = AutoModelForSequenceClassification.from_pretrained(tiny_classifier)
    model.save_pretrained("m")
    AutoTokenizer.from_pretrained(tiny_classifier).save_pretrained("m")
    tensors = load_file("m/model.safetensors")
    del tensors["classifier.bias"]
    save_file(tensors, "m/model.safetensors", metadata={"format": "pt"})
    fix = "its head would be random; name a model that was trained for the task"
    message = error_message(lambda: load_model(resolve_model("m"), HEAD, {}, strict=True))
    assert message == f"m: 1 weight is missing: classifier.bias; {fix}"
    layer = sorted(key for key in tensors if "layer.0" in key)
    save_file(
        {key: value for key, value in tensors.items() if key not in layer},
        "m/model.safetensors",
        metadata={"format": "pt"},
    )
    message = error_message(lambda: load_model(resolve_model("m"), HEAD, {}, strict=True))
    assert message == f"m: {len(layer) + 1} weights are missing: {', '.join(layer[:5])} ...; {fix}"


def test_a_model_with_mostly_missing_weights_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    message = error_message(lambda: load_classifier(copy_tiny(), num_hidden_layers=8))
    assert message.startswith(
        "m: its files do not fit a BertForSequenceClassification: they have no bert.encoder.layer.2."
    )
    assert message.endswith(" ...; check model.name and model.config")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (lambda data: data[: len(data) // 2], "incomplete metadata, file not fully covered"),
        (lambda data: b"\xff" * 100, "header too large"),
        (lambda data: b"", "header too small"),
        (lambda data: data[:8] + b"\0" + data[9:], "invalid JSON in header: expected value at line 1 column 1"),
    ],
    ids=["truncated", "garbage", "empty", "flipped"],
)
def test_damaged_weights_are_reported(
    data: Callable[[bytes], bytes], reason: str, copy_tiny: CopyTiny, error_message: ErrorMessage
) -> None:
    file = copy_tiny() / "model.safetensors"
    file.write_bytes(data(file.read_bytes()))
    message = error_message(lambda: load_classifier("m"))
    assert (
        message == f"m: SafetensorError: Error while deserializing header: {reason}; check the folder and model.config"
    )


def test_a_folder_without_weights_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    copy_tiny(without=("model.safetensors",))
    assert (
        error_message(lambda: load_classifier("m"))
        == "m: no weights; save the model as model.safetensors (save_pretrained does)"
    )


@pytest.mark.parametrize(
    "text", ["{", "{}", "[]", '{"model_type": "zzz"}', '{"model_type": "bert", "hidden_size": "a"}', "\0", '{"model_type": "bert", "hidden_size": -1}'],
)  # fmt: skip
def test_a_damaged_config_gives_a_one_line_error(text: str, copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    (copy_tiny() / "config.json").write_text(text)
    message = error_message(lambda: load_classifier("m"))
    assert message.startswith("m: ")
    assert message.endswith("; check the folder and model.config")
    assert "\n" not in message


@pytest.mark.parametrize("text", ["{", "{}", "[]", "\0", '{"version": "1.0", "model": {"type": "BPE"}}'])
def test_a_damaged_tokenizer_gives_a_one_line_error(
    text: str, copy_tiny: CopyTiny, error_message: ErrorMessage
) -> None:
    (copy_tiny() / "tokenizer.json").write_text(text)
    message = error_message(lambda: load_tokenizer(resolve_model("m")))
    assert message.startswith("m: ")
    assert message.endswith("; check the folder and model.config")


def test_a_folder_without_tokenizer_files_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    copy_tiny(without=("tokenizer.json", "tokenizer_config.json"))
    expected = "m: its tokenizer has no vocabulary; put its tokenizer files into the folder"
    assert error_message(lambda: load_tokenizer(resolve_model("m"))) == expected


def test_a_tokenizer_without_pad_token_is_refused(error_message: ErrorMessage) -> None:
    make_tiny_model("m", pad=False)
    fix = "name a model whose tokenizer has one (encoders do; many text generators do not)"
    assert error_message(lambda: load_tokenizer(resolve_model("m"))) == f"m: its tokenizer has no pad token; {fix}"
    assert load_tokenizer(resolve_model("m"), required_tokens=("mask",)).mask_token == "[MASK]"


def test_padding_and_truncation_of_the_file_are_disabled(copy_tiny: CopyTiny) -> None:
    from tokenizers import Tokenizer

    file = str(copy_tiny() / "tokenizer.json")
    tokenizer = Tokenizer.from_file(file)
    tokenizer.enable_padding(length=128)
    tokenizer.enable_truncation(4)
    tokenizer.save(file)
    loaded = load_tokenizer(resolve_model("m"))
    assert len(loaded("a very fine film")["input_ids"]) == 6
    assert len(loaded("fine")["input_ids"]) == 3


def test_an_architecture_without_such_a_head_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    file = copy_tiny() / "config.json"
    file.write_text(json.dumps({"model_type": "clip_text_model"}))
    assert error_message(lambda: load_classifier("m")) == (
        "m: a 'clip_text_model' model cannot do this task (no AutoModelForSequenceClassification for it); "
        "name an encoder such as google-bert/bert-base-uncased"
    )


def test_a_tokenizer_larger_than_the_embedding_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    words = len(load_tokenizer(resolve_model(str(copy_tiny()))))
    file = Path("m/config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"vocab_size": 20}))
    expected = f"m: its tokenizer has {words} tokens, its embedding 20 rows; take both from the same model"
    assert error_message(lambda: load_classifier("m")) == expected


def test_config_fields_are_overridden_or_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    copy_tiny()
    assert load_classifier("m", hidden_dropout_prob=0.5).model.config.hidden_dropout_prob == 0.5
    message = error_message(lambda: load_classifier("m", hidden_dropout_probb=0.5), RecipeError)
    assert (
        message
        == "model.config.hidden_dropout_probb: the config of m has no such field; did you mean 'hidden_dropout_prob'?"
    )
    assert error_message(lambda: load_classifier("m", hidden_dropout_prob="x")).endswith(
        "; check the folder and model.config"
    )


@pytest.mark.parametrize("name", ["google-bert/bert-base-uncased", "no/such@main"])
def test_the_hub_without_network_fails_at_once(name: str, error_message: ErrorMessage) -> None:
    message = error_message(lambda: load_config(resolve_model(name)), NetworkError)
    assert message.startswith(f"{name}: no such local folder, and fetching it from the Hub failed: ")
    assert message.endswith("; HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --model")


def test_the_fix_mentions_the_network_unless_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert (
        hub.suggest_model_fix(resolve_model("no/such"))
        == "check the name and the network, or name a local folder with --model"
    )


def test_a_saved_model_truncates_as_in_training(tiny_classifier: str) -> None:
    loaded = load_classifier(tiny_classifier)
    loaded.tokenizer.backend_tokenizer.enable_truncation(3)
    load.save_model(loaded.model, loaded.tokenizer, Path("out"), 40)
    names = {file.name for file in Path("out").iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
    tokenizer_json = json.loads(Path("out/tokenizer.json").read_text())
    assert (tokenizer_json["truncation"], tokenizer_json["padding"]) == (None, None)
    assert AutoTokenizer.from_pretrained("out").model_max_length == 40
    reloaded = AutoModelForSequenceClassification.from_pretrained("out").eval()
    assert reloaded.config.id2label == {0: "bad", 1: "good"}
    batch = loaded.tokenizer(["a fine film", "dull"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        assert torch.equal(reloaded(**batch).logits, loaded.model.eval()(**batch).logits)


def test_weights_in_a_pickle_are_never_read(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    folder = copy_tiny()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert error_message(lambda: load_classifier("m")) == (
        "m: only pytorch_model.bin, which can run code; save the model as model.safetensors (save_pretrained does)"
    )


def test_code_of_a_repository_is_never_run(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    folder = copy_tiny(model_type="odd", auto_map={"AutoConfig": "odd.OddConfig"})
    (folder / "odd.py").write_text("raise SystemExit('never run me')")
    assert error_message(lambda: load_classifier("m")) == (
        "m: needs code from its own repository, which llmkit does not run; "
        "name a model of an architecture that transformers has"
    )


def test_the_tokenizers_pad_token_is_set_in_the_config(own_folder: Path) -> None:
    from transformers import AutoConfig

    from llmkit.models.tokenizers.encode import encode_texts, pad_features

    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 130}
    words = len(make_tiny_tokenizer(own_folder / "m"))
    ids = {"pad_token_id": None, "bos_token_id": None, "eos_token_id": None}
    config = AutoConfig.for_model("gpt2", vocab_size=words, **sizes, **ids)
    AutoModelForSequenceClassification.from_config(config).save_pretrained("m")
    loaded = load_classifier("m", num_labels=2)
    loaded.model.eval()
    features, _ = encode_texts(loaded.tokenizer, ["a fine film", "dull"], 16)
    with torch.inference_mode():
        together = loaded.model(**pad_features(loaded.tokenizer, features)).logits[1]
        alone = loaded.model(**pad_features(loaded.tokenizer, features[1:])).logits[0]
    assert torch.allclose(together, alone, atol=1e-6)
    load.save_model(loaded.model, loaded.tokenizer, Path("out"), 40)
    assert json.loads(Path("out/config.json").read_text())["pad_token_id"] == loaded.tokenizer.pad_token_id


def test_a_tokenizer_without_a_mask_token_is_refused(copy_tiny: CopyTiny, error_message: ErrorMessage) -> None:
    folder = copy_tiny()
    config_json = folder / "tokenizer_config.json"
    config = json.loads(config_json.read_text(encoding="utf-8"))
    del config["mask_token"]
    config_json.write_text(json.dumps(config), encoding="utf-8")
    assert error_message(lambda: load_tokenizer(resolve_model("m", kind="tokenizer"), ("pad", "mask"))) == (
        "m: it has no mask token; name another, or make one with `llmkit tokenizer train`"
    )
    assert error_message(lambda: load_tokenizer(resolve_model("m"), ("pad", "mask"))) == (
        "m: its tokenizer has no mask token; name a model whose tokenizer has one (masked language models do)"
    )
