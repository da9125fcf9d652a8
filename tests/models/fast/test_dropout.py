"""Masks drawn by the word: rate, scale, repeatability and gradient are those of dropout."""

from __future__ import annotations

import pytest
import torch

from llmkit.models.fast.dropout import apply_dropout
from llmkit.models.fast.padding_free import masked_attention


def test_the_rate_and_the_scale() -> None:
    torch.manual_seed(0)
    out = apply_dropout(torch.ones(400, 1000), 0.3)
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=5 * (0.3 * 0.7 / 400_000) ** 0.5)
    rounded = round(0.3 * 65_536) / 65_536
    assert out[kept].unique().tolist() == pytest.approx([1 / (1 - rounded)], rel=1e-6)
    for axis in (0, 1):  # no row and no column is dropped more than others
        spread = float(kept.float().mean(axis).std())
        assert spread == pytest.approx((0.3 * 0.7 / kept.shape[axis]) ** 0.5, rel=0.25)


def test_the_draw_follows_from_torchs_generator() -> None:
    ones = torch.ones(64)
    state = torch.get_rng_state()
    first, second = apply_dropout(ones, 0.5), apply_dropout(ones, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(apply_dropout(ones, 0.5), first)
    assert not torch.equal(first, second)


def test_no_rate_draws_nothing_and_all_of_it_leaves_nothing() -> None:
    values, state = torch.randn(5), torch.get_rng_state()
    assert apply_dropout(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), state)
    assert apply_dropout(values, 1.0).tolist() == [0.0] * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_gradient_passes_where_the_value_did(dtype: torch.dtype) -> None:
    values = torch.randn(3, 200, dtype=dtype, requires_grad=True)
    out = apply_dropout(values, 0.25)
    out.sum().backward()
    assert values.grad is not None
    assert out.dtype == values.grad.dtype == dtype
    assert torch.equal(values.grad != 0, out != 0)
    torch.testing.assert_close(values.grad * values.detach(), out.detach())


def test_attention_with_dropout_is_expected_to_be_attention_without() -> None:
    """Dropped weights enter linearly: the mean over many copies of a text is the plain output, and copies differ."""
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 1, 2, 5, 4).unbind(0)
    padding = torch.tensor([False, False, False, True, False])[None, None, None]
    copies = 20_000
    many = [one.expand(copies, -1, -1, -1) for one in (query, key, value)]
    out = masked_attention(many[0], many[1], many[2], padding, 0.3, None)
    plain = masked_attention(query, key, value, padding, 0.0, None)
    error = out.std(0) / copies**0.5
    assert bool(((out.mean(0) - plain[0]).abs() <= 5 * error).all())
    assert len(out.flatten(1).unique(dim=0)) > 100
