"""Fill-mask predictions and loss sums equal those of the full logits, with a sparse head or without."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForMaskedLM

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models import fill_mask
from llmkit.models.fast import sparse_head

MASK, VOCAB_SIZE = 4, 300


@pytest.fixture(scope="module")
def model(tiny_mlm: str) -> Any:
    return AutoModelForMaskedLM.from_pretrained(tiny_mlm).eval()


def make_batch(*lengths: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of random words between two special tokens."""
    generator = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, VOCAB_SIZE, mask.shape, generator=generator) * mask
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length - 1] = 2, 3
    return {"input_ids": ids, "attention_mask": mask}


def predict_probabilities(model: Any, ids: Tensor) -> Tensor:
    """Token probabilities of the plain model for one unpadded text."""
    with torch.inference_mode():
        return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0].softmax(-1)


@pytest.mark.parametrize("sparse", [True, False])
def test_most_probable_tokens_of_each_mask(model: Any, sparse: bool) -> None:
    batch = make_batch(9, 6, 3)
    for row, at in ((0, 2), (0, 5), (2, 1)):
        batch["input_ids"][row, at] = MASK
    with torch.inference_mode():
        results = fill_mask.predict_masked_tokens(model, batch, MASK, 3, sparse)
    assert [len(one) for one in results] == [2, 0, 1]
    for row, at, predictions in ((0, 2, results[0][0]), (0, 5, results[0][1]), (2, 1, results[2][0])):
        best, tokens = predict_probabilities(model, batch["input_ids"][row][: (9, 6, 3)[row]])[at].topk(3)
        assert [token for token, _ in predictions] == tokens.tolist()
        assert [probability for _, probability in predictions] == pytest.approx(best.tolist(), abs=1e-6)


def test_top_k_is_limited_by_the_vocabulary(model: Any) -> None:
    batch = make_batch(4)
    batch["input_ids"][0, 1] = MASK
    with torch.inference_mode():
        ((predictions,),) = fill_mask.predict_masked_tokens(model, batch, MASK, 10**6, True)
    assert len(predictions) == model.config.vocab_size
    assert sum(probability for _, probability in predictions) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("copies", [2, 64])
def test_each_token_but_special_ones_is_masked_in_turn(
    model: Any, sparse: bool, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_mask, "MASKED_COPIES_PER_BATCH", copies)
    batch = make_batch(7, 5, 2)
    unmasked = batch["input_ids"].clone()
    unmasked[0, 3] = 1  # an unknown token of the text counts as any other
    batch["input_ids"] = unmasked.clone()
    labels = torch.full_like(unmasked, IGNORE_INDEX)
    labels[0, 4], batch["input_ids"][0, 4] = unmasked[0, 4], MASK  # already masked: restored before its turn
    batch["labels"] = labels
    with torch.inference_mode():
        results = fill_mask.sum_pseudo_losses(model, batch, MASK, (1, 1), sparse)
    for row, length in enumerate((7, 5, 2)):
        loss = 0.0
        for at in range(1, length - 1):
            ids = unmasked[row, :length].clone()
            ids[at] = MASK
            loss -= float(predict_probabilities(model, ids)[at, unmasked[row, at]].log())
        assert results[row]["tokens"] == length - 2
        assert results[row]["pseudo_loss"] == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_rows_without_labels_have_zero_sums(model: Any, sparse: bool) -> None:
    batch = make_batch(5, 2)
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORE_INDEX)
    with torch.inference_mode():
        assert fill_mask.sum_masked_losses(model, batch, sparse) == [{"loss": 0.0, "masked": 0.0, "correct": 0.0}] * 2


@pytest.mark.parametrize("lengths", [(9, 7), (2,), (1,), (1, 1)])
def test_the_sparse_head_check_takes_any_length(model: Any, lengths: tuple[int, ...]) -> None:
    batch = make_batch(*lengths)
    assert fill_mask.can_select_positions(model, batch)
    assert sparse_head.has_positionwise_head(model, batch)


class MixingHead(torch.nn.Module):
    """A head whose output at a position depends on all positions."""

    def __init__(self, head: Any) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        return self.head(hidden + hidden.mean(1, keepdim=True))


def test_a_head_that_mixes_positions_is_not_sparse(tiny_mlm: str) -> None:
    model = AutoModelForMaskedLM.from_pretrained(tiny_mlm).eval()
    assert fill_mask.can_select_positions(model, make_batch(9, 7))
    model.cls = MixingHead(model.cls)
    assert not fill_mask.can_select_positions(model, make_batch(9, 7))
    assert not model.base_model._forward_hooks
