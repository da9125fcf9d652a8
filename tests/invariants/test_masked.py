"""Masked-language modelling by the shortcuts: the loss and every gradient of the plain model on padded rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForMaskedLM

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models import fill_mask
from llmkit.models.fast.padding_free import try_padding_free
from llmkit.models.fast.sparse_head import SparseHead, has_positionwise_head
from llmkit.tasks.mlm import Mlm
from llmkit.testing import ENCODER_CONFIGS

BERT = ENCODER_CONFIGS["bert"]
MODERN = ENCODER_CONFIGS["modernbert"] | {"global_attn_every_n_layers": 2, "num_hidden_layers": 4, "local_attention": 8}
CONFIGS: dict[str, dict[str, Any]] = {
    **{family: ENCODER_CONFIGS[family] for family in ("bert", "roberta", "distilbert", "electra")},
    "modernbert": MODERN,  # with sliding windows: no packing
    "albert": BERT | {"embedding_size": 16},
    "mpnet": BERT,
    "deberta-v2": BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
}
PACKED = ("bert", "roberta", "distilbert", "electra", "albert")
WORDS = 90
LENGTHS = {"several": [9, 7, 7, 3, 2], "one alone": [5], "forty": sorted([2, 3, 60, 17] * 10, reverse=True)}


@pytest.fixture(scope="module")
def built() -> Callable[[str], Any]:
    """Each family's tiny model without dropout, built once."""
    made: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in made:
            ids = {"pad_token_id": 1, **{f"{name}_token_id": None for name in ("bos", "eos", "cls", "sep")}}
            config = AutoConfig.for_model(
                family, vocab_size=WORDS, max_position_embeddings=66, initializer_range=0.1, **CONFIGS[family] | ids
            )
            for name in config.to_dict():
                if name.endswith("dropout") or "dropout_prob" in name:
                    setattr(config, name, 0.0)
            torch.manual_seed(0)
            made[family] = AutoModelForMaskedLM.from_config(config)
        return made[family]

    return get


def batch_of(lengths: Sequence[int], share: float = 0.3, seed: int = 0) -> dict[str, Tensor]:
    """Random words (never padding), some of them with a label; a row may have none, the batch has one at least."""
    chance = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    words = torch.randint(5, WORDS, mask.shape, generator=chance) * mask + (1 - mask)
    asked = (torch.rand(mask.shape, generator=chance) < share) & mask.bool()
    asked[0, 0] = True
    labels = torch.where(asked, torch.randint(5, WORDS, mask.shape, generator=chance), IGNORE_INDEX)
    return {"input_ids": words, "attention_mask": mask, "labels": labels}


def gradients(model: Any, inputs: dict[str, Any], padded: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """The task's summed loss under "loss", and the gradient of every weight."""
    model.train()
    model.zero_grad()
    loss = Mlm().loss(model(**inputs), padded)
    loss.backward()
    found = {name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()}
    return {"loss": loss.detach(), **found}


def same(plain: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
    assert {name for name, one in plain.items() if one is None} == {name for name, one in other.items() if one is None}
    for name, one in plain.items():
        if one is not None:
            torch.testing.assert_close(
                other[name], one, rtol=1e-5, atol=1e-5, msg=lambda said, at=name: f"{at}: {said}"
            )


def without_labels(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", CONFIGS)
def test_a_sparse_head_gives_the_loss_and_gradients_of_the_whole_one(
    built: Callable[[str], Any], family: str, lengths: list[int]
) -> None:
    model, batch = built(family), batch_of(lengths)
    plain = gradients(model, without_labels(batch), batch)
    assert has_positionwise_head(model, batch_of([6, 2]))
    sparse = SparseHead(model)
    sparse.position_mask = batch["labels"] != IGNORE_INDEX
    sparse.install()
    try:
        assert model(**without_labels(batch)).logits.shape == (1, int(sparse.position_mask.sum()), WORDS)
        same(plain, gradients(model, without_labels(batch), batch))
    finally:
        sparse.remove()
    same(plain, gradients(model, without_labels(batch), batch))


@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", PACKED)
def test_packed_documents_do_not_see_each_other(built: Callable[[str], Any], family: str, lengths: list[int]) -> None:
    model, batch = built(family), batch_of(lengths)
    plain = gradients(model, without_labels(batch), batch)
    packing, why = try_padding_free(model, batch_of([6, 2]), "labels")
    assert packing is not None, why
    assert (packing.last_layer is not None) == (family in ("bert", "roberta", "electra"))
    packing.install()
    try:
        same(plain, gradients(model, packing.pack(batch), batch))
    finally:
        packing.remove()
    same(plain, gradients(model, without_labels(batch), batch))


@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in PACKED])
def test_a_family_whose_attention_cannot_be_kept_within_documents_is_not_packed(
    built: Callable[[str], Any], family: str
) -> None:
    packing, why = try_padding_free(built(family), batch_of([40, 2]), "labels")
    assert packing is None
    assert why in ("its attention cannot be exchanged", "its attention asks for sliding_window")


@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("sparse", [True, False])
def test_the_sums_of_each_row_are_those_of_the_whole_logits(
    built: Callable[[str], Any], family: str, sparse: bool
) -> None:
    model, batch = built(family).eval(), batch_of([9, 7, 7, 3, 2])
    with torch.inference_mode():
        chances = model(**without_labels(batch)).logits.log_softmax(-1)
        found = fill_mask.sum_masked_losses(model, batch, sparse)
    for row, sums in enumerate(found):
        places = (batch["labels"][row] != IGNORE_INDEX).nonzero()[:, 0]
        asked = batch["labels"][row, places]
        picked = chances[row, places]
        assert sums["masked"] == len(places)
        assert sums["correct"] == int((picked.argmax(-1) == asked).sum())
        np.testing.assert_allclose(sums["loss"], -float(picked[range(len(asked)), asked].sum()), rtol=1e-5, atol=1e-5)
