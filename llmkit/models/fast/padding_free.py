"""Batches without padding: the tokens of all texts in one row, attention within each text only.

All that works on single tokens (most of an encoder) then works on real tokens. Attention alone sees padding, in groups
of texts of similar length. The head gets only the positions that it reads (each text's first, or those with a label),
and where the last layer is built as BERT's, the layer is computed only for them. The sums are those of the padded
batch, in another order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention
from transformers import PreTrainedModel
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from llmkit.data.corpus.masking import IGNORE_INDEX
from llmkit.models.fast.dropout import apply_dropout
from llmkit.models.fast.layout import TOKEN_MULTIPLE, Group, Layout, build_layout
from llmkit.models.tokenizers.max_length import PAD_OFFSET_FAMILIES

ATTENTION_NAME = "llmkit_packed"
IGNORED_KWARGS = ("position_ids", "use_cache")  # words that reach the attention and mean nothing to it
LOGIT_TOLERANCE = 1e-5  # of the largest logit: how far float32 sums in another order may move one
SPREAD_TOLERANCE = 1e-2  # of the difference between two texts
HeadPositions = Literal["first", "labels"]  # the positions that a head reads


class UnsupportedAttentionError(Exception):
    """The model asks of its attention what packed rows do not offer."""


class Unpack(torch.autograd.Function):
    """The tokens [n, ...] of a group at their places [texts * longest, ...]; padding holds any token.

    Nothing may come back from padding: its gradient is left out. Torch's own would add up all places, serially.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return tokens.index_select(0, group.index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.group.back), None


class Pack(torch.autograd.Function):
    """The other way: from the places [texts * longest, ...] of a group the tokens [n, ...]."""

    @staticmethod
    def forward(ctx: Any, places: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return places.index_select(0, group.slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        back = gradients[0].index_select(0, ctx.group.index)
        return back.masked_fill_(ctx.group.padding.view(-1, *[1] * (back.dim() - 1)), 0.0), None


def attend_unpadded(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **more: Any,
) -> tuple[Tensor, None]:
    """Attention within each text of a packed row: [1, heads, T, d] to [1, T, heads, d], as transformers wants it."""
    asked = [name for name, what in more.items() if name not in IGNORED_KWARGS and what not in (None, False)]
    asked += ["a causal mask"] if getattr(module, "is_causal", False) else []
    if layout is None or attention_mask is not None or asked or key.shape != query.shape:
        raise UnsupportedAttentionError(f"its attention asks for {', '.join(asked) or 'other rows'}")
    by_group = [one[0].transpose(0, 1).split(layout.group_sizes) for one in (query, key, value)]  # each [n, heads, d]
    parts = []
    for group, *tokens in zip(layout.groups, *by_group, strict=False):  # what fills up is in no group
        grouped = [unpack_heads(one, group) for one in tokens]
        out = masked_attention(grouped[0], grouped[1], grouped[2], group.padding, dropout, scaling)
        parts.append(Pack.apply(out.transpose(1, 2).flatten(0, 1), group))
    return torch.cat([*parts, by_group[-1][-1]])[None], None  # nobody reads what is said of the last ones


def unpack_heads(tokens: Tensor, group: Group) -> Tensor:
    """A group's tokens [n, heads, d] as [texts, heads, longest, d]."""
    return Unpack.apply(tokens, group).unflatten(0, (group.texts, -1)).transpose(1, 2)


def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor, dropout: float, scaling: float | None
) -> Tensor:
    """Softmax attention over [texts, heads, ..., d]; `padding` is true where a key is no token."""
    if dropout == 0:
        return scaled_dot_product_attention(query, key, value, ~padding, scale=scaling)
    # With dropout torch's own takes a slow path on CPUs: float32 throughout, and a serial mask.
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(2, 3)
    weights = scores.float().masked_fill(padding, -torch.inf).softmax(-1).to(value.dtype)
    return apply_dropout(weights, dropout) @ value


def skip_mask(*_: Any, **__: Any) -> None:
    """The layout says all that a mask would."""


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, attend_unpadded)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, skip_mask)


def try_padding_free(
    model: PreTrainedModel, batch: Mapping[str, Tensor], positions: HeadPositions = "first"
) -> tuple[PaddingFree | None, str]:
    """How the model reads packed batches, not installed; or None, and why it cannot.

    Tried on `batch` (padded, at least one long and one short text): the logits must be those of the plain model.
    """
    packing, was_training = PaddingFree(model, positions), model.training
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    model.eval()
    try:
        with torch.inference_mode():
            plain = model(**inputs).logits
            if positions == "labels":
                plain = plain[get_label_mask(batch)]
            packing.install()
            moved = model(**packing.pack(batch)).logits.flatten(0, -2) - plain
    except UnsupportedAttentionError as why:
        return None, str(why)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None, "it is built otherwise"
    finally:
        packing.remove()
        model.train(was_training)
    # Another function (a head that looks at all positions) moves logits as far as texts do, however small they are.
    spread = float((plain - plain.mean(0)).abs().max())
    if not moved.abs().max() <= min(LOGIT_TOLERANCE * max(1.0, float(plain.abs().max())), SPREAD_TOLERANCE * spread):
        return None, "its logits would differ, or are all alike"
    return packing, ""


class PaddingFree:
    """A model that reads packed batches between `install` and `remove`."""

    def __init__(self, model: PreTrainedModel, positions: HeadPositions = "first") -> None:
        self.model, self.positions = model, positions
        self.original_attention = model.config._attn_implementation
        text = model.config.get_text_config()
        self.position_offset = (text.pad_token_id or 0) + 1 if text.model_type in PAD_OFFSET_FAMILIES else 0
        self.last_layer = get_last_bert_layer(model)
        self.hook: Any = None

    def install(self) -> None:
        """Let the model read packed batches, and no others."""
        if not self.model._can_set_attn_implementation():
            raise UnsupportedAttentionError("its attention cannot be exchanged")
        self.model.set_attn_implementation(ATTENTION_NAME)
        if self.last_layer is not None:
            self.last_layer.forward = build_last_layer_forward(self.last_layer, self.reshape_for_head)
        else:
            self.hook = get_encoder(self.model).register_forward_hook(self.select_positions, with_kwargs=True)

    def remove(self) -> None:
        """Make the model what it was."""
        self.model.set_attn_implementation(self.original_attention)
        if self.last_layer is not None:
            self.last_layer.__dict__.pop("forward", None)
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    @staticmethod
    def count_tokens(batch: Mapping[str, Tensor]) -> int:
        """The tokens of the batch when it is packed."""
        return -(-int(batch["attention_mask"].sum()) // TOKEN_MULTIPLE) * TOKEN_MULTIPLE

    def get_layout(self, batch: Mapping[str, Tensor], mask: Tensor, lengths: list[int]) -> Layout:
        """Where the texts of a batch lie when it is packed."""
        if self.positions == "first":
            ends = np.cumsum(lengths)
            return build_layout(lengths, ends - lengths, np.ones(len(lengths), dtype=np.int64))
        asked = get_label_mask(batch)
        return build_layout(lengths, np.flatnonzero(asked[mask].numpy()), asked.sum(1).numpy())

    def reshape_for_head(self, read: Tensor) -> Tensor:
        """What the head reads [n, H] as it wants it: a text each [n, 1, H], or one text of them all [1, n, H]."""
        return read[:, None] if self.positions == "first" else read[None]

    def select_positions(self, _: nn.Module, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """A hook: the encoder's output [1, T, H] without the positions that the head does not read."""
        output["last_hidden_state"] = self.reshape_for_head(output[0][0].index_select(0, kwargs["layout"].read))
        return output

    def pack(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """A padded batch [texts, length] with its padding taken out, filled up to a multiple of `ROUNDED`: [1, T],
        positions and layout, without labels."""
        mask = batch["attention_mask"].bool()
        lengths = mask.sum(1).tolist()
        layout = self.get_layout(batch, mask, lengths)
        packed: dict[str, Any] = {
            name: pad(tensor[mask], (0, layout.group_sizes[-1]))[None] if tensor.shape == mask.shape else tensor
            for name, tensor in batch.items()
            if name not in ("attention_mask", "labels")
        }
        positions = [np.arange(length) for length in lengths] + [np.zeros(layout.group_sizes[-1], dtype=np.int64)]
        return packed | {
            "position_ids": torch.from_numpy(np.concatenate(positions))[None] + self.position_offset,
            "layout": layout,
        }


def get_encoder(model: PreTrainedModel) -> nn.Module:
    """The module whose output the head reads: the encoder without a pooler, where it is a module of its own."""
    base = model.base_model
    for name in ("encoder", "transformer"):
        if isinstance(getattr(base, name, None), nn.Module):
            return getattr(base, name)
    return base


def get_label_mask(batch: Mapping[str, Tensor]) -> Tensor:
    """Which positions [texts, length] have a label."""
    return batch["labels"] != IGNORE_INDEX


def get_last_bert_layer(model: PreTrainedModel) -> Any:
    """The last layer, where it is built as BERT's (RoBERTa's and ELECTRA's are); else None."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    last: Any = layers[-1] if layers else None
    try:
        parts = [last.attention.self.query, last.attention.self.key, last.attention.self.value, last.attention.output]
        plain = not last.is_decoder and last.chunk_size_feed_forward == 0 and callable(last.feed_forward_chunk)
    except AttributeError:
        return None
    return last if plain and all(isinstance(part, nn.Module) for part in parts) else None


def build_last_layer_forward(layer: Any, shaped: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """The layer's forward for the positions that the head reads: [1, T, H] to [n, H], `shaped`. Keys and values are of
    all."""
    own = layer.attention.self

    def forward(hidden: Tensor, *_: Any, layout: Layout, **__: Any) -> Tensor:
        tokens = hidden[0]
        read = tokens.index_select(0, layout.head_index)
        heads = (-1, own.num_attention_heads, own.attention_head_size)
        query, key, value = own.query(read).view(heads), own.key(tokens).view(heads), own.value(tokens).view(heads)
        dropout = own.dropout.p if own.training else 0.0
        queries, keys, values = (
            query.split(layout.head_sizes),
            key.split(layout.group_sizes),
            value.split(layout.group_sizes),
        )
        parts = []
        for at, (group, asking) in enumerate(zip(layout.groups, layout.head_groups, strict=True)):
            if layout.head_sizes[at]:
                mine, known, held = (
                    unpack_heads(queries[at], asking),
                    unpack_heads(keys[at], group),
                    unpack_heads(values[at], group),
                )
                out = masked_attention(mine, known, held, group.padding, dropout, own.scaling)
                parts.append(Pack.apply(out.transpose(1, 2).flatten(0, 1), asking).flatten(1))
        return shaped(layer.feed_forward_chunk(layer.attention.output(torch.cat(parts), read)))

    return forward
