"""Masked-language modeling on the fast path gives the loss and all gradients of the padded model."""

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
    "modernbert": MODERN,  # sliding windows are not supported without padding
    "albert": BERT | {"embedding_size": 16},
    "mpnet": BERT,
    "deberta-v2": BERT | {"relative_attention": True, "pos_att_type": ["c2p", "p2c"]},
}
PADDING_FREE = ("bert", "roberta", "distilbert", "electra", "albert")
VOCAB_SIZE = 90
LENGTHS = {"several": [9, 7, 7, 3, 2], "one alone": [5], "forty": sorted([2, 3, 60, 17] * 10, reverse=True)}


@pytest.fixture(scope="module")
def get_model() -> Callable[[str], Any]:
    """Return a function that builds each family's tiny model without dropout, once."""
    models: dict[str, Any] = {}

    def get(family: str) -> Any:
        if family not in models:
            ids = {"pad_token_id": 1, **{f"{name}_token_id": None for name in ("bos", "eos", "cls", "sep")}}
            config = AutoConfig.for_model(
                family,
                vocab_size=VOCAB_SIZE,
                max_position_embeddings=66,
                initializer_range=0.1,
                **CONFIGS[family] | ids,
            )
            for name in config.to_dict():
                if name.endswith("dropout") or "dropout_prob" in name:
                    setattr(config, name, 0.0)
            torch.manual_seed(0)
            models[family] = AutoModelForMaskedLM.from_config(config)
        return models[family]

    return get


def make_batch(lengths: Sequence[int], share: float = 0.3, seed: int = 0) -> dict[str, Tensor]:
    """Return random tokens (never padding), some with a label; the batch has at least one label."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCAB_SIZE, mask.shape, generator=generator) * mask + (1 - mask)
    selected = (torch.rand(mask.shape, generator=generator) < share) & mask.bool()
    selected[0, 0] = True
    labels = torch.where(selected, torch.randint(5, VOCAB_SIZE, mask.shape, generator=generator), IGNORE_INDEX)
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def compute_gradients(model: Any, inputs: dict[str, Any], padded: dict[str, Tensor]) -> dict[str, Tensor | None]:
    """Return the task's summed loss under "loss", and the gradient of every weight."""
    model.train()
    model.zero_grad()
    loss = Mlm().loss(model(**inputs), padded)
    loss.backward()
    return {
        "loss": loss.detach(),
        **{name: None if weight.grad is None else weight.grad.clone() for name, weight in model.named_parameters()},
    }


def assert_equal_gradients(plain: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> None:
    assert {name for name in plain if plain[name] is None} == {name for name in other if other[name] is None}
    for name, gradient in plain.items():
        if gradient is not None:
            torch.testing.assert_close(
                other[name], gradient, rtol=1e-5, atol=1e-5, msg=lambda message, name=name: f"{name}: {message}"
            )


def without_labels(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in batch.items() if name != "labels"}


@pytest.mark.slow
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", CONFIGS)
def test_sparse_head_gives_the_loss_and_gradients_of_the_full_one(
    get_model: Callable[[str], Any], family: str, lengths: list[int]
) -> None:
    model, batch = get_model(family), make_batch(lengths)
    plain = compute_gradients(model, without_labels(batch), batch)
    assert has_positionwise_head(model, make_batch([6, 2]))
    head = SparseHead(model)
    head.position_mask = batch["labels"] != IGNORE_INDEX
    head.install()
    try:
        assert model(**without_labels(batch)).logits.shape == (1, int(head.position_mask.sum()), VOCAB_SIZE)
        assert_equal_gradients(plain, compute_gradients(model, without_labels(batch), batch))
    finally:
        head.remove()
    assert_equal_gradients(plain, compute_gradients(model, without_labels(batch), batch))


@pytest.mark.slow
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS)
@pytest.mark.parametrize("family", PADDING_FREE)
def test_unpadded_documents_do_not_attend_to_each_other(
    get_model: Callable[[str], Any], family: str, lengths: list[int]
) -> None:
    model, batch = get_model(family), make_batch(lengths)
    plain = compute_gradients(model, without_labels(batch), batch)
    padding_free, why = try_padding_free(model, make_batch([6, 2]), "labels")
    assert padding_free is not None, why
    assert (padding_free.last_layer is not None) == (family in ("bert", "roberta", "electra"))
    padding_free.install()
    try:
        assert_equal_gradients(plain, compute_gradients(model, padding_free.remove_padding(batch), batch))
    finally:
        padding_free.remove()
    assert_equal_gradients(plain, compute_gradients(model, without_labels(batch), batch))


@pytest.mark.parametrize("family", PADDING_FREE)
def test_a_pass_without_any_label_has_no_loss_and_no_gradient(get_model: Callable[[str], Any], family: str) -> None:
    # A micro-batch of a few short texts may have no masked token.
    model, batch = get_model(family), make_batch([4, 3])
    padding_free, why = try_padding_free(model, make_batch([6, 2]), "labels")
    assert padding_free is not None, why
    batch["labels"] = torch.full_like(batch["labels"], IGNORE_INDEX)
    padding_free.install()
    try:
        gradients = compute_gradients(model, padding_free.remove_padding(batch), batch)
    finally:
        padding_free.remove()
    assert all(gradient is None or not gradient.any() for gradient in gradients.values())


@pytest.mark.parametrize("family", [name for name in CONFIGS if name not in PADDING_FREE])
def test_unsupported_families_keep_their_padding(get_model: Callable[[str], Any], family: str) -> None:
    padding_free, why = try_padding_free(get_model(family), make_batch([40, 2]), "labels")
    assert padding_free is None
    assert why in ("its attention cannot be replaced", "its attention uses sliding_window")


@pytest.mark.slow
@pytest.mark.parametrize("family", CONFIGS)
@pytest.mark.parametrize("is_sparse", [True, False])
def test_row_sums_equal_those_of_the_full_logits(get_model: Callable[[str], Any], family: str, is_sparse: bool) -> None:
    model, batch = get_model(family).eval(), make_batch([9, 7, 7, 3, 2])
    with torch.inference_mode():
        log_probabilities = model(**without_labels(batch)).logits.log_softmax(-1)
        row_sums = fill_mask.sum_masked_losses(model, batch, is_sparse)
    for row, sums in enumerate(row_sums):
        positions = (batch["labels"][row] != IGNORE_INDEX).nonzero()[:, 0]
        labels = batch["labels"][row, positions]
        predicted = log_probabilities[row, positions]
        assert sums["masked"] == len(positions)
        assert sums["correct"] == int((predicted.argmax(-1) == labels).sum())
        np.testing.assert_allclose(
            sums["loss"], -float(predicted[range(len(labels)), labels].sum()), rtol=1e-5, atol=1e-5
        )
