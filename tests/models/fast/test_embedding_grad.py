"""The embedding gradient accumulated in place is dense and equals torch's in every step."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

from llmkit.models.fast.embedding_grad import install_embedding_gradient, remove_embedding_gradient
from llmkit.testing import ENCODER_CONFIGS


class TinyModel(nn.Module):
    """A minimal model: an embedding table and a weight."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.table, self.weight = nn.Embedding(30, 4, padding_idx=1, **options), nn.Parameter(torch.randn(4))

    def get_input_embeddings(self) -> nn.Embedding:
        return self.table

    def get_output_embeddings(self) -> None:
        return None

    def forward(self, ids: Tensor) -> Tensor:
        return (self.table(ids) * self.weight).pow(2).sum()


def make_batches(steps: int) -> list[list[Tensor]]:
    """Return micro-batches of token ids, including padding, for each step."""
    generator = torch.Generator().manual_seed(4)
    return [[torch.randint(0, 12, (2, 5), generator=generator) + 3 * step for _ in range(2)] for step in range(steps)]


@pytest.mark.parametrize("to_none", [True, False])
def test_gradient_equals_torchs_in_every_step(to_none: bool) -> None:
    plain, ours = TinyModel(), TinyModel()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    assert "forward" in ours.table.__dict__
    for batches in make_batches(4):
        for model in (plain, ours):
            model.zero_grad(set_to_none=to_none)
            for ids in batches:  # gradient accumulation
                model(ids).backward()
        assert ours.table.weight.grad is not None
        assert torch.equal(ours.table.weight.grad, plain.table.weight.grad)
        assert ours.table.weight.grad[1].tolist() == [0.0] * 4  # padding_idx
        unused = sorted(set(range(30)) - set(torch.cat(batches).flatten().tolist()))
        assert not ours.table.weight.grad[unused].any()  # rows of the previous step are reset


def test_gradient_buffer_is_allocated_once() -> None:
    ours, seen = TinyModel(), set()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    for batches in make_batches(3):
        ours.zero_grad()
        ours(batches[0]).backward()
        assert ours.table.weight.grad is not None
        seen.add(ours.table.weight.grad.data_ptr())
    assert len(seen) == 1


def test_existing_gradient_is_added_to() -> None:
    plain, ours = TinyModel(), TinyModel()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    (ids,) = make_batches(1)[0][:1]
    for model in (plain, ours):
        model.table.weight.grad = torch.full((30, 4), 0.5)
        model(ids).backward()
    torch.testing.assert_close(ours.table.weight.grad, plain.table.weight.grad)


@pytest.mark.parametrize("clip", [0.05, None])
def test_optimizer_updates_are_equal(clip: float | None) -> None:
    plain, ours = TinyModel(), TinyModel()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    optimizers = [torch.optim.AdamW(model.parameters(), lr=0.05, weight_decay=0.1) for model in (plain, ours)]
    for batches in make_batches(5):
        for model, optimizer in zip((plain, ours), optimizers, strict=True):
            for ids in batches:
                model(ids).backward()
            if clip is not None:
                nn.utils.clip_grad_norm_(model.parameters(), clip)
            optimizer.step()
            optimizer.zero_grad()
    torch.testing.assert_close(ours.table.weight, plain.table.weight, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.weight, plain.weight, rtol=0, atol=1e-6)


def test_tied_frozen_and_special_tables_are_unchanged() -> None:
    config = AutoConfig.for_model("bert", vocab_size=90, **ENCODER_CONFIGS["bert"])
    tied, frozen = AutoModelForMaskedLM.from_config(config), AutoModelForSequenceClassification.from_config(config)
    frozen.get_input_embeddings().weight.requires_grad_(False)
    special = [TinyModel(sparse=True), TinyModel(max_norm=1.0), TinyModel(scale_grad_by_freq=True)]
    for model in (tied, frozen, *special):
        install_embedding_gradient(model)
        assert "forward" not in model.get_input_embeddings().__dict__
        remove_embedding_gradient(model)  # harmless


def test_inference_makes_no_gradient() -> None:
    ours = TinyModel()
    install_embedding_gradient(ours)  # type: ignore[arg-type]
    with torch.inference_mode():
        ours(torch.tensor([[2, 3]]))
    assert ours.table.weight.grad is None
