"""Heads are reused only for the labels they were trained on; unused base model weights are listed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from transformers import AutoModel, AutoModelForMaskedLM

from llmkit.models import heads
from llmkit.models.load import LoadedModel, load_model
from llmkit.models.sources.model_ref import ModelRef, resolve_model
from llmkit.testing import ENCODER_CONFIGS, make_tiny_model

HEAD = "AutoModelForSequenceClassification"


def make_label_fields(labels: Sequence[str]) -> dict[str, Any]:
    """Config fields that a task sets for `labels`."""
    return {
        "num_labels": len(labels),
        "id2label": dict(enumerate(labels)),
        "label2id": {label: i for i, label in enumerate(labels)},
        "problem_type": "single_label_classification",
    }


def make_classifier(labels: Sequence[str], family: str = "bert") -> str:
    names = {key: value for key, value in make_label_fields(labels).items() if key != "num_labels"}
    return make_tiny_model("m", family, auto_class=HEAD, **names)


def load_with_labels(labels: Sequence[str], seed: int = 1) -> LoadedModel:
    torch.manual_seed(seed)
    return load_model(resolve_model("m"), HEAD, make_label_fields(labels))


def read_weight(key: str) -> torch.Tensor:
    from safetensors.torch import load_file

    return load_file("m/model.safetensors")[key]


def test_the_same_labels_in_the_same_order_keep_the_head() -> None:
    make_classifier(["bad", "good"])
    loaded = load_with_labels(["bad", "good"])
    assert loaded.new_weights == ()
    assert torch.equal(loaded.model.classifier.weight, read_weight("classifier.weight"))


@pytest.mark.slow
@pytest.mark.parametrize("labels", [["zneg", "apos"], ["good", "bad"], ["bad", "fine"]])
def test_other_labels_reinitialize_the_head_by_the_seed(labels: list[str]) -> None:
    make_classifier(["bad", "good"])
    loaded = load_with_labels(labels)
    assert loaded.new_weights == ("classifier.bias", "classifier.weight")
    assert loaded.model.config.id2label == dict(enumerate(labels))
    weight = loaded.model.classifier.weight
    assert not torch.equal(weight, read_weight("classifier.weight"))
    assert 0.05 < weight.std() < 0.2  # the config's initializer_range is 0.1
    assert not loaded.model.classifier.bias.any()
    assert torch.equal(weight, load_with_labels(labels).model.classifier.weight)
    assert not torch.equal(weight, load_with_labels(labels, seed=2).model.classifier.weight)


def test_a_head_without_label_names_is_reinitialized() -> None:
    make_tiny_model("m", auto_class=HEAD)
    assert load_with_labels(["bad", "good"]).new_weights == ("classifier.bias", "classifier.weight")
    assert load_with_labels(["LABEL_0", "LABEL_1"]).new_weights == ()


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_CONFIGS)
def test_only_the_output_layer_is_reinitialized(family: str) -> None:
    make_classifier(["bad", "good"], family)
    last = "classifier.out_proj" if family in ("roberta", "electra") else "classifier"
    loaded = load_with_labels(["a", "b"])
    assert loaded.new_weights == (f"{last}.bias", f"{last}.weight")
    changed = [key for key, value in loaded.model.state_dict().items() if not torch.equal(value, read_weight(key))]
    assert changed == [f"{last}.weight"]  # a new bias is zero, like that of the untrained head


def test_a_new_head_is_initialized_once(tiny: str) -> None:
    torch.manual_seed(1)
    once = load_model(resolve_model(tiny), HEAD, {"num_labels": 2}).model.classifier.weight
    torch.manual_seed(1)
    loaded = load_model(resolve_model(tiny), HEAD, make_label_fields(["bad", "good"]))
    assert loaded.new_weights == ("classifier.bias", "classifier.weight")
    assert torch.equal(loaded.model.classifier.weight, once)


def test_a_head_without_an_output_layer_is_refused(error_message: Callable[..., str]) -> None:
    model = AutoModel.from_pretrained(make_tiny_model("m"))
    assert error_message(lambda: heads.reinit_output_layer(ModelRef("m", "m"), model, [])) == (
        "m: its head was trained for other labels and has no layer with one output per label; name a model without a head"
    )


@pytest.mark.slow
@pytest.mark.parametrize("auto_class", ["AutoModel", HEAD, "AutoModelForMaskedLM"])
@pytest.mark.parametrize("family", ENCODER_CONFIGS)
def test_unused_base_model_layers_are_listed(family: str, auto_class: str) -> None:
    make_tiny_model("m", family, auto_class=auto_class)
    assert load_model(resolve_model("m"), HEAD, {}).unused_weights == ()
    left_out = load_model(resolve_model("m"), HEAD, {"num_hidden_layers": 1}).unused_weights
    assert left_out
    assert all(".1." in key for key in left_out)


def test_other_heads_and_old_buffers_are_not_listed(tiny: str) -> None:
    model = load_model(resolve_model(tiny), HEAD, {}).model
    buffers = ["embeddings.position_ids", "bert.embeddings.position_ids"]
    others = ["cls.predictions.bias", "cls.seq_relationship.weight", "decoder.weight"]
    layers = ["bert.encoder.layer.7.output.dense.bias", "encoder.layer.2.output.dense.bias"]
    assert heads.find_unused_weights(model, [*layers[::-1], *buffers, *others]) == tuple(layers)


BIAS = [-1.0, -2.0, -3.0]


@pytest.mark.slow
@pytest.mark.parametrize("family", ENCODER_CONFIGS)
def test_a_new_mlm_head_gets_the_given_bias(family: str) -> None:
    """Also if the bias is tied to another name, and if the vocabulary is rounded up."""
    make_tiny_model("m", family, auto_class="AutoModelForMaskedLM")
    model = AutoModelForMaskedLM.from_pretrained("m")
    before = {key: value.clone() for key, value in model.state_dict().items()}
    assert heads.init_output_bias(model, before, BIAS)
    bias = model.get_output_embeddings().bias
    assert bias[:3].tolist() == BIAS
    assert set(bias[3:].tolist()) == {-3.0}
    changed = {key for key, value in model.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert all(key.endswith("bias") for key in changed)
    model.save_pretrained("saved")
    reloaded = AutoModelForMaskedLM.from_pretrained("saved").get_output_embeddings().bias
    assert torch.equal(reloaded, bias)


def test_a_trained_mlm_head_keeps_its_bias() -> None:
    make_tiny_model("m", auto_class="AutoModelForMaskedLM")
    model = AutoModelForMaskedLM.from_pretrained("m")
    before = model.get_output_embeddings().bias.clone()
    assert not heads.init_output_bias(model, ["bert.embeddings.word_embeddings.weight"], BIAS)
    assert torch.equal(model.get_output_embeddings().bias, before)


def test_only_a_new_classifier_gets_the_given_bias(tiny: str) -> None:
    model = load_model(resolve_model(tiny), HEAD, make_label_fields(["a", "b", "c"])).model
    assert heads.init_output_bias(model, ["classifier.bias"], BIAS)
    assert model.classifier.bias.tolist() == BIAS
    assert not heads.init_output_bias(AutoModel.from_pretrained(tiny), ["embeddings.LayerNorm.bias"], BIAS)
    few = load_model(resolve_model(tiny), HEAD, make_label_fields(["a", "b"])).model
    assert not heads.init_output_bias(few, ["classifier.bias"], BIAS)
