"""Packed texts, gradients in place, dropout by the word: the numbers of the plain padded model, and no trace of them."""

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
AFTER_PAD = 64  # positions that are left of them where they are counted from pad_token_id + 1
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


def built(family: str, fields: dict[str, Any], rate: float = 0.0) -> Any:
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


def batch_of(lengths: Sequence[int], pairs: bool = False, seed: int = 0) -> dict[str, Tensor]:
    """Random words (never padding) at the start of each row, token types as those of a pair, and classes."""
    chance = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    words = torch.randint(5, 90, mask.shape, generator=chance) * mask + (1 - mask)
    types = (torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None] // 2).long() * mask
    labels = torch.randint(LABELS, (len(lengths),), generator=chance)
    return (
        {"input_ids": words, "attention_mask": mask} | ({"token_type_ids": types} if pairs else {}) | {"labels": labels}
    )


def gradients(model: Any, inputs: dict[str, Any]) -> dict[str, Tensor | None]:
    """The summed loss of a batch under "loss", and the gradient of every weight."""
    model.train()
    model.zero_grad()
    logits = model(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    loss = cross_entropy(logits, inputs["labels"], reduction="sum")
    loss.backward()
    found = {name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()}
    return {"loss": loss.detach(), **found}


LENGTHS = {
    "several": [9, 7, 7, 3, 2],
    "one alone": [5],
    "forty": sorted(([2, 3, 60, 17] * 10), reverse=True),
    "at the limit": [AFTER_PAD, 40, 1],
}


@pytest.fixture(scope="module")
def family_models() -> Callable[[str], Any]:
    """Each family's tiny model, built once."""
    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            made[family] = built(family, CONFIGS[family])
        return made[family]

    return get


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", CONFIGS)
def test_the_loss_and_every_gradient_are_those_of_the_padded_batch(
    family_models: Callable[[str], Any], family: str, lengths: list[int]
) -> None:
    model = family_models(family)
    typed = {"bert", "electra", "albert"}
    batch = batch_of(lengths, pairs=family in typed)
    plain = gradients(model, batch)
    packing, why = try_padding_free(model, batch_of([6, 2]))
    assert packing is not None, why
    packing.install()
    install_embedding_gradient(model)
    assert "forward" in model.get_input_embeddings().__dict__
    try:
        packed = gradients(model, packing.pack(batch) | {"labels": batch["labels"]})
    finally:
        packing.remove()
        remove_embedding_gradient(model)
    assert {name for name, one in plain.items() if one is None} == {name for name, one in packed.items() if one is None}
    for name, one in plain.items():
        if one is not None:
            torch.testing.assert_close(
                packed[name], one, rtol=1e-5, atol=1e-5, msg=lambda said, at=name: f"{at}: {said}"
            )


@pytest.mark.parametrize(
    ("family", "why"),
    [
        ("mpnet", "its attention cannot be exchanged"),
        ("deberta-v2", "its attention cannot be exchanged"),
        ("modernbert", "its attention asks for sliding_window"),
        ("gpt2", "its attention asks for a causal mask"),
    ],
)
def test_a_family_that_cannot_is_left_as_it_is_and_says_why(family: str, why: str) -> None:
    model = built(family, PLAIN[family])
    before = condition(model)
    assert try_padding_free(model, batch_of([40, 2])) == (None, why)
    assert condition(model) == before


def condition(model: Any) -> dict[str, Any]:
    """All that a shortcut changes about a model."""
    own = {path: sorted(set(module.__dict__) & {"forward"}) for path, module in model.named_modules()}
    hooks = {path: list(module._forward_hooks) for path, module in model.named_modules() if module._forward_hooks}
    words = model.config._attn_implementation, model.config.get_text_config()._attn_implementation
    return {"forwards": {path: found for path, found in own.items() if found}, "hooks": hooks, "attention": words,
            "class": type(model), "training": model.training, "config": model.config.to_dict()}  # fmt: skip


@pytest.mark.parametrize("family", CONFIGS)
def test_installing_is_undone_and_may_be_done_again(family_models: Callable[[str], Any], family: str) -> None:
    model = family_models(family).eval()
    batch = {name: one for name, one in batch_of([7, 3]).items() if name != "labels"}
    before, logits = condition(model), model(**batch).logits
    packing, _ = try_padding_free(model, batch)
    assert packing is not None
    assert condition(model) == before
    for _ in range(2):
        packing.install()
        install_embedding_gradient(model)
        during = condition(model)
        assert during["attention"][0] == ATTENTION_NAME
        assert during != before
        packing.remove()
        remove_embedding_gradient(model)
        assert condition(model) == before
        assert torch.equal(model(**batch).logits, logits)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_a_model_with_dropout_answers_on_the_mean_as_the_plain_one(family: str) -> None:
    """Logits over many draws, packed and padded: equal means and spreads; copies of a text in a batch differ."""
    model = built(family, CONFIGS[family], rate=0.1)
    one = batch_of([9])
    copies = {name: tensor.expand(2000, *tensor.shape[1:]).contiguous() for name, tensor in one.items()}
    inputs = {name: tensor for name, tensor in copies.items() if name != "labels"}
    packing, why = try_padding_free(model, batch_of([9, 2]))
    assert packing is not None, why
    model.train()
    torch.manual_seed(2)
    with torch.no_grad():
        plain = model(**inputs).logits
        packing.install()
        packed = model(**packing.pack(inputs)).logits
        packing.remove()
    error = ((plain.var(0) + packed.var(0)) / 2000) ** 0.5
    assert bool(((plain.mean(0) - packed.mean(0)).abs() <= 5 * error).all())
    torch.testing.assert_close(packed.std(0), plain.std(0), rtol=0.1, atol=0)
    assert len(packed.unique(dim=0)) == 2000
