"""The fast path gives the numbers of the padded model and restores the model completely."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForSequenceClassification

from llmkit.models.fast.embedding_grad import install_embedding_gradient, remove_embedding_gradient
from llmkit.models.fast.padding_free import ATTENTION_NAME, try_padding_free
from llmkit.testing import ENCODER_CONFIGS

BERT = ENCODER_CONFIGS["bert"]
MODERN = ENCODER_CONFIGS["modernbert"]
POSITIONS = 66
AFTER_PAD = 64  # usable positions if they start at pad_token_id + 1
LABELS = 3
CONFIGS: dict[str, dict[str, Any]] = {
    **{family: ENCODER_CONFIGS[family] for family in ("bert", "roberta", "distilbert", "electra", "modernbert")},
    "albert": BERT | {"embedding_size": 16},
    "xlm-roberta": BERT,
    "camembert": BERT,
}
PLAIN = {
    "mpnet": BERT,
    "deberta-v2": BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
    "modernbert": MODERN | {"global_attn_every_n_layers": 2, "num_hidden_layers": 4},
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 2},
}
DROPOUT = (
    "hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout", "dropout", "attention_dropout",
    "seq_classif_dropout", "classifier_dropout_prob", "embedding_dropout", "mlp_dropout", "summary_last_dropout",
    "resid_pdrop", "embd_pdrop", "attn_pdrop", "pooler_dropout",
)  # fmt: skip


def build_model(family: str, fields: dict[str, Any], rate: float = 0.0) -> Any:
    ids = {"pad_token_id": 1, **{f"{name}_token_id": None for name in ("bos", "eos", "cls", "sep")}}
    config = AutoConfig.for_model(
        family, vocab_size=90, max_position_embeddings=POSITIONS, num_labels=LABELS, initializer_range=0.1,
        **fields | ids,
    )  # fmt: skip
    for name in DROPOUT:
        if hasattr(config, name):
            setattr(config, name, rate)
    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_config(config)


def make_batch(lengths: Sequence[int], pairs: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Return random tokens (never padding), right-padded, with token types of a pair and classes."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, 90, mask.shape, generator=generator) * mask + (1 - mask)
    types = (torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None] // 2).long() * mask
    labels = torch.randint(LABELS, (len(lengths),), generator=generator)
    return (
        {"input_ids": ids, "attention_mask": mask} | ({"token_type_ids": types} if pairs else {}) | {"labels": labels}
    )


def compute_gradients(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor | None]:
    """Return the summed loss of a batch under "loss", and the gradient of every weight."""
    model.train()
    model.zero_grad()
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    loss = cross_entropy(logits, inputs["labels"], reduction="sum")
    loss.backward()
    return {
        "loss": loss.detach(),
        **{name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()},
    }


LENGTHS = {
    "several": [9, 7, 7, 3, 2],
    "one alone": [5],
    "forty": sorted(([2, 3, 60, 17] * 10), reverse=True),
    "at the limit": [AFTER_PAD, 40, 1],
}


@pytest.fixture(scope="module")
def family_models() -> Callable[[str], Any]:
    """Return a function that builds each family's tiny model once."""
    models: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in models:
            models[family] = build_model(family, CONFIGS[family])
        return models[family]

    return get


@pytest.mark.slow
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", CONFIGS)
def test_loss_and_gradients_equal_those_of_the_padded_batch(
    family_models: Callable[[str], Any], family: str, lengths: list[int]
) -> None:
    model = family_models(family)
    typed = {"bert", "electra", "albert"}
    # Seed 1, because seed 0 puts a unit of DistilBERT's ReLU within 5e-8 of zero, where rounding decides its gradient.
    batch = make_batch(lengths, pairs=family in typed, seed=1)
    plain = compute_gradients(model, batch)
    padding_free, why = try_padding_free(model, make_batch([6, 2]))
    assert padding_free is not None, why
    padding_free.install()
    install_embedding_gradient(model)
    assert "forward" in model.get_input_embeddings().__dict__
    try:
        unpadded = compute_gradients(model, padding_free.remove_padding(batch) | {"labels": batch["labels"]})
    finally:
        padding_free.remove()
        remove_embedding_gradient(model)
    assert {name for name in plain if plain[name] is None} == {name for name in unpadded if unpadded[name] is None}
    for name, gradient in plain.items():
        if gradient is not None:
            torch.testing.assert_close(
                unpadded[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda message, name=name: f"{name}: {message}"
            )


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("mpnet", "its attention cannot be replaced"),
        ("deberta-v2", "its attention cannot be replaced"),
        ("modernbert", "its attention uses sliding_window"),
        ("gpt2", "its attention uses a causal mask"),
    ],
)
def test_unsupported_families_are_unchanged_and_give_a_reason(family: str, why: str) -> None:
    model = build_model(family, PLAIN[family])
    before = capture_state(model)
    assert try_padding_free(model, make_batch([40, 2])) == (None, why)
    assert capture_state(model) == before


def capture_state(model: Any) -> dict[str, Any]:
    """Return everything that the fast path may change about a model."""
    patched = {path: sorted(set(module.__dict__) & {"forward"}) for path, module in model.named_modules()}
    hooks = {path: list(module._forward_hooks) for path, module in model.named_modules() if module._forward_hooks}
    attention = model.config._attn_implementation, model.config.get_text_config()._attn_implementation
    return {"forwards": {path: names for path, names in patched.items() if names}, "hooks": hooks, "attention": attention,
            "class": type(model), "training": model.training, "config": model.config.to_dict()}  # fmt: skip


@pytest.mark.parametrize("family", CONFIGS)
def test_fast_path_can_be_removed_and_reinstalled(family_models: Callable[[str], Any], family: str) -> None:
    model = family_models(family).eval()
    batch = {name: tensor for name, tensor in make_batch([7, 3]).items() if name != "labels"}
    before, logits = capture_state(model), model(**batch).logits
    padding_free, _ = try_padding_free(model, batch)
    assert padding_free is not None
    assert capture_state(model) == before
    for _ in range(2):
        padding_free.install()
        install_embedding_gradient(model)
        during = capture_state(model)
        assert during["attention"][0] == ATTENTION_NAME
        assert during != before
        padding_free.remove()
        remove_embedding_gradient(model)
        assert capture_state(model) == before
        assert torch.equal(model(**batch).logits, logits)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_dropout_gives_equal_means_with_and_without_padding(family: str) -> None:
    """Logits over many dropout masks have equal mean and spread with and without padding; copies of a text differ."""
    model = build_model(family, CONFIGS[family], rate=0.1)
    batch = make_batch([9])
    copies = {name: tensor.expand(2000, *tensor.shape[1:]).contiguous() for name, tensor in batch.items()}
    inputs = {name: tensor for name, tensor in copies.items() if name != "labels"}
    padding_free, why = try_padding_free(model, make_batch([9, 2]))
    assert padding_free is not None, why
    model.train()
    torch.manual_seed(2)
    with torch.no_grad():
        plain = model(**inputs).logits
        padding_free.install()
        unpadded = model(**padding_free.remove_padding(inputs)).logits
        padding_free.remove()
    error = ((plain.var(0) + unpadded.var(0)) / 2000) ** 0.5
    assert bool(((plain.mean(0) - unpadded.mean(0)).abs() <= 5 * error).all())
    torch.testing.assert_close(unpadded.std(0), plain.std(0), rtol=0.1, atol=0)
    assert len(unpadded.unique(dim=0)) == 2000
