"""RNN, CNN and bag-of-embeddings models: layers, padding invariance, config checks, loading with transformers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassError
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification

from llmkit.models import heads
from llmkit.models.load import get_position_limit
from llmkit.models.networks import NetworkConfig, build_network_config
from llmkit.models.scratch.sizes import NETWORK_NAMES, NETWORK_TYPE_PREFIX

VOCAB_SIZE = 50
TINY: dict[str, dict[str, Any]] = {
    "rnn": {"hidden_size": 6},
    "lstm": {"hidden_size": 6, "num_hidden_layers": 2},
    "gru": {"hidden_size": 6, "bidirectional": False},
    "cnn": {"num_filters": 5, "kernel_sizes": [2, 4]},
    "bag": {},
}


def make_network(kind: str, **fields: Any) -> Any:
    """Build a tiny network in evaluation mode."""
    torch.manual_seed(0)
    config = build_network_config(kind, vocab_size=VOCAB_SIZE, embedding_size=7, num_labels=3, **TINY[kind], **fields)
    return AutoModelForSequenceClassification.from_config(config).eval()


def make_ids(*lengths: int) -> list[torch.Tensor]:
    """Draw random token ids [1, length] for each length."""
    generator = torch.Generator().manual_seed(1)
    return [torch.randint(1, VOCAB_SIZE, (1, length), generator=generator) for length in lengths]


def test_every_name_builds_a_network() -> None:
    assert set(TINY) == set(NETWORK_NAMES)
    for kind in NETWORK_NAMES:
        assert build_network_config(kind).model_type.startswith(NETWORK_TYPE_PREFIX)


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_layers_have_the_configured_shapes(kind: str) -> None:
    model = make_network(kind)
    names = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    assert names["network.words.weight"] == (VOCAB_SIZE, 7)
    assert names["classifier.bias"] == (3,)
    assert [path for path, _ in heads.find_output_layers(model)] == ["classifier"]
    assert all(heads.is_in_base_model(model, name) != name.startswith("classifier.") for name in names)
    assert model.get_input_embeddings() is model.network.words
    expected = {
        "rnn": {"network.cell.weight_hh_l0": (6, 6), "network.cell.weight_hh_l0_reverse": (6, 6)},
        "lstm": {"network.cell.weight_hh_l1": (24, 6), "network.cell.weight_ih_l1": (24, 12)},
        "gru": {"network.cell.weight_hh_l0": (18, 6)},
        "cnn": {"network.filters.0.weight": (5, 7, 2), "network.filters.1.weight": (5, 7, 4)},
        "bag": {},
    }[kind]
    assert expected.items() <= names.items()
    assert ("network.cell.weight_hh_l0_reverse" in names) == (kind in ("rnn", "lstm"))


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_padding_on_either_side_does_not_change_logits(kind: str) -> None:
    model, texts = make_network(kind), make_ids(9, 1, 2, 5, 3)
    with torch.inference_mode():
        alone = torch.cat([model(ids).logits for ids in texts])
        for width, left in ((9, False), (16, False), (16, True)):
            padded = [
                torch.cat([torch.zeros(1, width - ids.shape[1], dtype=torch.long), ids][:: 1 if left else -1], 1)
                for ids in texts
            ]
            batch = torch.cat(padded)
            mask = (batch != 0).long()
            for attention_mask in (mask, None):  # without a mask the padding token marks padding
                torch.testing.assert_close(model(batch, attention_mask).logits, alone, rtol=0, atol=1e-6)
            noise = batch.where(mask.bool(), 7)  # any tokens under the mask
            torch.testing.assert_close(model(noise, mask).logits, alone, rtol=0, atol=1e-6)
    assert (alone[0] - alone[1]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["rnn", "lstm", "gru", "cnn"])
def test_word_order_matters(kind: str) -> None:
    model, (ids,) = make_network(kind), make_ids(9)
    with torch.inference_mode():
        assert (model(ids).logits - model(ids.flip(1)).logits).abs().max() > 1e-4


def test_a_bag_ignores_word_order() -> None:
    model, (ids,) = make_network("bag"), make_ids(9)
    with torch.inference_mode():
        torch.testing.assert_close(model(ids).logits, model(ids.flip(1)).logits)
        words = model.network.words.weight[ids[0]].mean(0)
        torch.testing.assert_close(model(ids).logits[0], model.classifier(words))


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_a_text_without_tokens_has_finite_logits(kind: str) -> None:
    model = make_network(kind)
    with torch.inference_mode():
        assert torch.isfinite(model(torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4)).logits).all()


def test_a_cnn_on_a_long_text_is_that_of_kim_2014() -> None:
    model, (ids,) = make_network("cnn"), make_ids(9)
    with torch.inference_mode():
        words = model.network.words(ids).transpose(1, 2)
        pooled = torch.cat([filters(words).relu().amax(2) for filters in model.network.filters], 1)
        torch.testing.assert_close(model(ids).logits, model.classifier(pooled))


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_the_padding_embedding_stays_zero(kind: str) -> None:
    model = make_network(kind).train()
    batch = torch.tensor([[3, 4, 5, 0, 0], [6, 7, 8, 9, 10]])
    model(batch, (batch != 0).long()).logits.sum().backward()
    assert not model.network.words.weight[0].any()
    assert not model.network.words.weight.grad[0].any()


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_weights_depend_on_the_seed_only(kind: str) -> None:
    one, two = (make_network(kind).state_dict() for _ in range(2))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert all(weight.any() for key, weight in one.items() if key.endswith("weight"))


def test_the_loss_is_cross_entropy() -> None:
    model, ids = make_network("bag"), torch.cat(make_ids(4, 4))
    labels = torch.tensor([2, 0])
    outputs = model(ids, labels=labels)
    torch.testing.assert_close(outputs.loss, cross_entropy(outputs.logits, labels))


@pytest.mark.parametrize(
    ("kind", "wrong", "expected"),
    [
        ("lstm", {"hidden_size": 0}, "hidden_size 0 is out of range; it must be at least 1"),
        ("lstm", {"num_hidden_layers": -1}, "num_hidden_layers -1 is out of range; it must be at least 1"),
        ("lstm", {"dropout": 1.0}, "dropout 1.0 is out of range; it must be at least 0 and below 1"),
        ("lstm", {"dropout": float("nan")}, "dropout nan is out of range; it must be at least 0 and below 1"),
        ("lstm", {"hidden_size": "9"}, "Field 'hidden_size' expected int, got str (value: '9')"),
        ("lstm", {"bidirectional": 1}, "Field 'bidirectional' expected bool, got int (value: 1)"),
        ("cnn", {"kernel_sizes": [3, 0]}, "kernel_sizes [3, 0] is out of range; it must be at least 1"),
        ("cnn", {"kernel_sizes": []}, "kernel_sizes [] is out of range; it must be at least 1"),
        ("bag", {"initializer_range": 0}, "initializer_range 0 is out of range; it must be above 0"),
    ],
)
def test_invalid_config_values_are_refused(kind: str, wrong: dict[str, Any], expected: str) -> None:
    with pytest.raises(StrictDataclassError) as caught:
        build_network_config(kind, **wrong)
    assert str(caught.value.__cause__) == expected


def test_a_network_reads_texts_of_any_length() -> None:
    class Tokenizer:
        model_max_length = 40  # where an earlier run truncated texts

    assert get_position_limit(build_network_config("gru"), Tokenizer()) is None  # type: ignore[arg-type]


@pytest.mark.slow
@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_importing_networks_registers_them(kind: str, own_folder: Any) -> None:
    """In a new interpreter without the rest of llmkit; without the import, loading fails."""
    model, ids = make_network(kind), torch.cat(make_ids(5, 5))
    model.save_pretrained("saved")
    torch.save(model(ids).logits.detach(), "logits.pt")
    if kind != "lstm":  # starting an interpreter takes seconds: only one kind
        reloaded = AutoModelForSequenceClassification.from_pretrained("saved").eval()
        torch.testing.assert_close(reloaded(ids).logits, model(ids).logits, rtol=0, atol=0)
        return
    code = (
        "import torch\nfrom transformers import AutoModelForSequenceClassification as Auto\n"
        "try:\n    Auto.from_pretrained('saved')\nexcept ValueError as error:\n    assert 'llmkit-recurrent' in str(error)\n"
        "else:\n    raise SystemExit('loaded without the import')\n"
        "import llmkit.models.networks\n"
        f"ids = torch.tensor({ids.tolist()})\n"
        "logits = Auto.from_pretrained('saved').eval()(ids).logits\n"
        "assert torch.equal(logits, torch.load('logits.pt')), logits\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_config_has_only_fields_of_its_network(error_message: Callable[..., str]) -> None:
    has = {kind: set(build_network_config(kind).to_dict()) - set(NetworkConfig().to_dict()) for kind in NETWORK_NAMES}
    assert has["lstm"] == {"cell", "hidden_size", "num_hidden_layers", "bidirectional"}
    assert has["cnn"] == {"kernel_sizes", "num_filters"}
    assert has["bag"] == set()
