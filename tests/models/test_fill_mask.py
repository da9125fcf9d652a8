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

MASK, WORDS = 4, 300


@pytest.fixture(scope="module")
def model(tiny_mlm: str) -> Any:
    return AutoModelForMaskedLM.from_pretrained(tiny_mlm).eval()


def padded(*lengths: int, seed: int = 0) -> dict[str, Tensor]:
    """Rows of random words between two special tokens."""
    chance = torch.Generator().manual_seed(seed)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    ids = torch.randint(5, WORDS, mask.shape, generator=chance) * mask
    for row, length in enumerate(lengths):
        ids[row, 0], ids[row, length - 1] = 2, 3
    return {"input_ids": ids, "attention_mask": mask}


def chances(model: Any, ids: Tensor) -> Tensor:
    """Token probabilities of the plain model for one unpadded text."""
    with torch.inference_mode():
        return model(input_ids=ids[None], attention_mask=torch.ones_like(ids)[None]).logits[0].softmax(-1)


@pytest.mark.parametrize("sparse", [True, False])
def test_most_probable_tokens_of_each_mask(model: Any, sparse: bool) -> None:
    batch = padded(9, 6, 3)
    for row, at in ((0, 2), (0, 5), (2, 1)):
        batch["input_ids"][row, at] = MASK
    with torch.inference_mode():
        found = fill_mask.predict_masked_tokens(model, batch, MASK, 3, sparse)
    assert [len(one) for one in found] == [2, 0, 1]
    for row, at, said in ((0, 2, found[0][0]), (0, 5, found[0][1]), (2, 1, found[2][0])):
        best, tokens = chances(model, batch["input_ids"][row][: (9, 6, 3)[row]])[at].topk(3)
        assert [token for token, _ in said] == tokens.tolist()
        assert [chance for _, chance in said] == pytest.approx(best.tolist(), abs=1e-6)


def test_top_k_is_limited_by_the_vocabulary(model: Any) -> None:
    batch = padded(4)
    batch["input_ids"][0, 1] = MASK
    with torch.inference_mode():
        ((said,),) = fill_mask.predict_masked_tokens(model, batch, MASK, 10**6, True)
    assert len(said) == model.config.vocab_size
    assert sum(chance for _, chance in said) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
@pytest.mark.parametrize("at_once", [2, 64])
def test_each_token_but_special_ones_is_masked_in_turn(
    model: Any, sparse: bool, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill_mask, "AT_ONCE", at_once)
    batch = padded(7, 5, 2)
    whole = batch["input_ids"].clone()
    whole[0, 3] = 1  # an unknown token of the text counts as any other
    batch["input_ids"] = whole.clone()
    labels = torch.full_like(whole, IGNORE_INDEX)
    labels[0, 4], batch["input_ids"][0, 4] = whole[0, 4], MASK  # already masked: restored before its turn
    batch["labels"] = labels
    with torch.inference_mode():
        found = fill_mask.sum_pseudo_losses(model, batch, MASK, (1, 1), sparse)
    for row, length in enumerate((7, 5, 2)):
        loss = 0.0
        for at in range(1, length - 1):
            ids = whole[row, :length].clone()
            ids[at] = MASK
            loss -= float(chances(model, ids)[at, whole[row, at]].log())
        assert found[row]["tokens"] == length - 2
        assert found[row]["pseudo_loss"] == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize("sparse", [True, False])
def test_rows_without_labels_have_zero_sums(model: Any, sparse: bool) -> None:
    batch = padded(5, 2)
    batch["labels"] = torch.full_like(batch["input_ids"], IGNORE_INDEX)
    with torch.inference_mode():
        assert fill_mask.sum_masked_losses(model, batch, sparse) == [{"loss": 0.0, "masked": 0.0, "correct": 0.0}] * 2


@pytest.mark.parametrize("lengths", [(9, 7), (2,), (1,), (1, 1)])
def test_the_sparse_head_check_takes_any_length(model: Any, lengths: tuple[int, ...]) -> None:
    batch = padded(*lengths)
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
    assert fill_mask.can_select_positions(model, padded(9, 7))
    model.cls = MixingHead(model.cls)
    assert not fill_mask.can_select_positions(model, padded(9, 7))
    assert not model.base_model._forward_hooks
