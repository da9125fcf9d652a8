"""Fast dropout has the rate, scale, repeatability and gradient of torch's dropout."""

from __future__ import annotations

import pytest
import torch

from llmkit.models.fast.dropout import apply_dropout
from llmkit.models.fast.padding_free import masked_attention


def test_rate_and_scale() -> None:
    torch.manual_seed(0)
    out = apply_dropout(torch.ones(400, 1000), 0.3)
    kept = out != 0
    assert float(kept.float().mean()) == pytest.approx(0.7, abs=5 * (0.3 * 0.7 / 400_000) ** 0.5)
    rounded = round(0.3 * 65_536) / 65_536
    assert out[kept].unique().tolist() == pytest.approx([1 / (1 - rounded)], rel=1e-6)
    for axis in (0, 1):  # rows and columns are dropped evenly
        spread = float(kept.float().mean(axis).std())
        assert spread == pytest.approx((0.3 * 0.7 / kept.shape[axis]) ** 0.5, rel=0.25)


def test_mask_is_seeded_by_torchs_generator() -> None:
    ones = torch.ones(64)
    state = torch.get_rng_state()
    first, second = apply_dropout(ones, 0.5), apply_dropout(ones, 0.5)
    torch.set_rng_state(state)
    assert torch.equal(apply_dropout(ones, 0.5), first)
    assert not torch.equal(first, second)


def test_rates_zero_and_one() -> None:
    values, state = torch.randn(5), torch.get_rng_state()
    assert apply_dropout(values, 0.0) is values
    assert torch.equal(torch.get_rng_state(), state)
    assert apply_dropout(values, 1.0).tolist() == [0.0] * 5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_is_masked_like_the_output(dtype: torch.dtype) -> None:
    values = torch.randn(3, 200, dtype=dtype, requires_grad=True)
    out = apply_dropout(values, 0.25)
    out.sum().backward()
    assert values.grad is not None
    assert out.dtype == values.grad.dtype == dtype
    assert torch.equal(values.grad != 0, out != 0)
    torch.testing.assert_close(values.grad * values.detach(), out.detach())


def test_mean_attention_with_dropout_equals_attention_without() -> None:
    """Attention is linear in the dropped weights: the mean over many copies is the output without dropout."""
    torch.manual_seed(1)
    query, key, value = torch.randn(3, 1, 2, 5, 4).unbind(0)
    padding = torch.tensor([False, False, False, True, False])[None, None, None]
    copies = 20_000
    repeated = [tensor.expand(copies, -1, -1, -1) for tensor in (query, key, value)]
    out = masked_attention(repeated[0], repeated[1], repeated[2], padding, 0.3, None)
    plain = masked_attention(query, key, value, padding, 0.0, None)
    error = out.std(0) / copies**0.5
    assert bool(((out.mean(0) - plain[0]).abs() <= 5 * error).all())
    assert len(out.flatten(1).unique(dim=0)) > 100
