"""The gradient of a word table, collected in place: dense, and that of torch, step after step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from llmkit.models.fast.embedding_grad import install_embedding_gradient, remove_embedding_gradient
from llmkit.testing import ENCODER_CONFIGS


class Reader(nn.Module):
    """A table and a weight, with the two methods that a model has."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table, self.weight = nn.Embedding(30, 4, padding_idx=1, **options), nn.Parameter(torch.randn(4))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, words: Tensor) -> Tensor:
        return (self.table(words) * self.weight).pow(2).sum()


def word_batches(steps: int) -> list[list[Tensor]]:
    """Micro-batches of word numbers, padding among them, for each step."""
    chance = torch.Generator().manual_seed(4)
    return [[torch.randint(0, 12, (2, 5), generator=chance) + 3 * step for _ in range(2)] for step in range(steps)]


@pytest.mark.parametrize("to_none", [True, False])
def test_it_is_torchs_step_after_step(to_none: bool) -> None:
    plain, ours = Reader(), Reader()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    assert "forward" in ours.table.__dict__
    for batches in word_batches(4):
        for model in (plain, ours):
            model.zero_grad(set_to_none=to_none)
            for words in batches:  # accumulation
                model(words).backward()
        assert ours.table.weight.grad is not None
        assert torch.equal(ours.table.weight.grad, plain.table.weight.grad)
        assert ours.table.weight.grad[1].tolist() == [0.0] * 4  # padding_idx
        unread = sorted(set(range(30)) - set(torch.cat(batches).flatten().tolist()))
        assert not ours.table.weight.grad[unread].any()  # rows of the step before


def test_it_is_one_tensor_that_is_made_once() -> None:
    ours, seen = Reader(), set()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    for batches in word_batches(3):
        ours.zero_grad()
        ours(batches[0]).backward()
        assert ours.table.weight.grad is not None
        seen.add(ours.table.weight.grad.data_ptr())
    assert len(seen) == 1


def test_a_gradient_that_was_there_is_added_to() -> None:
    plain, ours = Reader(), Reader()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    (words,) = word_batches(1)[0][:1]
    for model in (plain, ours):
        model.table.weight.grad = torch.full((30, 4), 0.5)
        model(words).backward()
    torch.testing.assert_close(ours.table.weight.grad, plain.table.weight.grad)


@pytest.mark.parametrize("clip", [0.05, None])
def test_an_optimizer_with_decay_makes_the_same_weights(clip: float | None) -> None:
    plain, ours = Reader(), Reader()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1) for model in (plain, ours)]
    for batches in word_batches(5):
        for model, optimizer in zip((plain, ours), optimizers, strict=True):
            for words in batches:
                model(words).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.table.weight, plain.table.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.weight, plain.weight, rtol=0, atol=1e-6)


def test_tied_frozen_and_special_tables_are_left_alone() -> None:
    config = AutoConfig.for_model("bert", vocab_size=90, **ENCODER_CONFIGS["bert"])
    tied, frozen = AutoModelForMaskedLM.from_config(config), AutoModelForSequenceClassification.from_config(config)
    frozen.get_input_embeddings().weight.requires_grad_(False)
    special = [Reader(sparse=True), Reader(max_norm=1.0), Reader(scale_grad_by_freq=True)]
    for model in (tied, frozen, *special):
        install_embedding_gradient(model)
        assert "forward" not in model.get_input_embeddings().__dict__
        remove_embedding_gradient(model)  # harmless


def test_an_inference_between_two_steps_changes_nothing() -> None:
    ours = Reader()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    with torch.inference_mode():
        ours(torch.tensor([[2, 3]]))
    assert ours.table.weight.grad is None
