"""Padding-free batches: the tokens of all texts in one row, with attention inside each text only.

Token-wise layers (most of an encoder) then process no padding. Only attention is padded, in groups of texts of similar
length. The head gets only the positions that it needs (the first of each text, or those with a label), and if the last
layer is built like BERT's, it is computed for those positions only. Results equal those of the padded batch up to the
order of float32 sums.
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

ATTENTION_NAME = "llmkit_unpadded"
IGNORED_KWARGS = ("position_ids", "use_cache")  # arguments that reach the attention function and do not affect it
LOGIT_TOLERANCE = 1e-5  # relative to the largest logit: rounding differences of float32 sums
SPREAD_TOLERANCE = 1e-2  # relative to the difference between two texts
HeadPositions = Literal["first", "labels"]  # the positions that the head needs


class UnsupportedAttentionError(Exception):
    """The model uses an attention feature that padding-free batches do not support."""


class Unpack(torch.autograd.Function):
    """Copy the tokens [n, ...] of a group to padded slots [texts * longest, ...]; padding slots hold any token.

    The gradient of padding slots is dropped. Torch's own backward would accumulate all slots serially.
    """

    @staticmethod
    def forward(ctx: Any, tokens: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return tokens.index_select(0, group.index)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return gradients[0].index_select(0, ctx.group.slots), None


class Pack(torch.autograd.Function):
    """Inverse of Unpack: select the tokens [n, ...] of a group from its padded slots [texts * longest, ...]."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, group: Group) -> Tensor:
        ctx.group = group
        return padded.index_select(0, group.slots)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = gradients[0].index_select(0, ctx.group.index)
        return gradient.masked_fill_(ctx.group.padding.view(-1, *[1] * (gradient.dim() - 1)), 0.0), None


def attend_unpadded(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Attend inside each text of an unpadded row: [1, heads, T, d] -> [1, T, heads, d], transformers' interface."""
    unsupported = [name for name, arg in kwargs.items() if name not in IGNORED_KWARGS and arg not in (None, False)]
    unsupported += ["a causal mask"] if getattr(module, "is_causal", False) else []
    if layout is None or attention_mask is not None or unsupported or key.shape != query.shape:
        raise UnsupportedAttentionError(f"its attention uses {', '.join(unsupported) or 'another layout'}")
    # Each [n, heads, d].
    by_group = [tensor[0].transpose(0, 1).split(layout.group_sizes) for tensor in (query, key, value)]
    outputs = []
    for group, *tokens in zip(layout.groups, *by_group, strict=False):  # filler tokens belong to no group
        queries, keys, values = (unpack_heads(tensor, group) for tensor in tokens)
        out = masked_attention(queries, keys, values, group.padding, dropout, scaling)
        outputs.append(Pack.apply(out.transpose(1, 2).flatten(0, 1), group))
    return torch.cat([*outputs, by_group[-1][-1]])[None], None  # the outputs of filler tokens are never used


def unpack_heads(tokens: Tensor, group: Group) -> Tensor:
    """Pad the tokens [n, heads, d] of a group to [texts, heads, longest, d]."""
    return Unpack.apply(tokens, group).unflatten(0, (group.texts, -1)).transpose(1, 2)


def masked_attention(
    query: Tensor, key: Tensor, value: Tensor, padding: Tensor, dropout: float, scaling: float | None
) -> Tensor:
    """Compute softmax attention over [texts, heads, ..., d]; `padding` is true for keys that are padding."""
    if dropout == 0:
        return scaled_dot_product_attention(query, key, value, ~padding, scale=scaling)
    # With dropout, torch takes a slow path on CPUs: float32 throughout, and a serially drawn mask.
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    scores = (query * scale) @ key.transpose(2, 3)
    weights = scores.float().masked_fill(padding, -torch.inf).softmax(-1).to(value.dtype)
    return apply_dropout(weights, dropout) @ value


def skip_mask(*_: Any, **__: Any) -> None:
    """Create no attention mask: the layout replaces it."""


ALL_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, attend_unpadded)
ALL_MASK_ATTENTION_FUNCTIONS.register(ATTENTION_NAME, skip_mask)


def try_padding_free(
    model: PreTrainedModel, batch: Mapping[str, Tensor], positions: HeadPositions = "first"
) -> tuple[PaddingFree | None, str]:
    """Return a PaddingFree for the model, not installed; or None and the reason why it is not supported.

    Verified on `batch` (padded, at least one long and one short text): the logits must equal those of the padded batch.
    """
    padding_free, was_training = PaddingFree(model, positions), model.training
    inputs = {name: tensor for name, tensor in batch.items() if name != "labels"}
    model.eval()
    try:
        with torch.inference_mode():
            reference = model(**inputs).logits
            if positions == "labels":
                reference = reference[get_label_mask(batch)]
            padding_free.install()
            difference = model(**padding_free.remove_padding(batch)).logits.flatten(0, -2) - reference
    except UnsupportedAttentionError as error:
        return None, str(error)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None, "its architecture is not supported"
    finally:
        padding_free.remove()
        model.train(was_training)
    # If the head depends on all positions, logits differ as much as between texts, however small they are.
    spread = float((reference - reference.mean(0)).abs().max())
    tolerance = min(LOGIT_TOLERANCE * max(1.0, float(reference.abs().max())), SPREAD_TOLERANCE * spread)
    if not difference.abs().max() <= tolerance:
        return None, "its logits would differ, or are equal for all texts"
    return padding_free, ""


class PaddingFree:
    """Makes a model accept padding-free batches between `install` and `remove`."""

    def __init__(self, model: PreTrainedModel, positions: HeadPositions = "first") -> None:
        self.model, self.positions = model, positions
        self.original_attention = model.config._attn_implementation
        text = model.config.get_text_config()
        self.position_offset = (text.pad_token_id or 0) + 1 if text.model_type in PAD_OFFSET_FAMILIES else 0
        self.last_layer = get_last_bert_layer(model)
        self.hook: Any = None

    def install(self) -> None:
        """Make the model accept padding-free batches, and only those."""
        if not self.model._can_set_attn_implementation():
            raise UnsupportedAttentionError("its attention cannot be replaced")
        self.model.set_attn_implementation(ATTENTION_NAME)
        if self.last_layer is not None:
            self.last_layer.forward = build_last_layer_forward(self.last_layer, self.reshape_for_head)
        else:
            self.hook = get_encoder(self.model).register_forward_hook(self.select_positions, with_kwargs=True)

    def remove(self) -> None:
        """Restore the original model."""
        self.model.set_attn_implementation(self.original_attention)
        if self.last_layer is not None:
            self.last_layer.__dict__.pop("forward", None)
        if self.hook is not None:
            self.hook.remove()
        self.hook = None

    @staticmethod
    def count_tokens(batch: Mapping[str, Tensor]) -> int:
        """Return the number of tokens of a padded batch without padding, with filler tokens."""
        return -(-int(batch["attention_mask"].sum()) // TOKEN_MULTIPLE) * TOKEN_MULTIPLE

    def get_layout(self, batch: Mapping[str, Tensor], mask: Tensor, lengths: list[int]) -> Layout:
        """Build the layout of a padded batch."""
        if self.positions == "first":
            ends = np.cumsum(lengths)
            return build_layout(lengths, ends - lengths, np.ones(len(lengths), dtype=np.int64))
        labeled = get_label_mask(batch)
        return build_layout(lengths, np.flatnonzero(labeled[mask].numpy()), labeled.sum(1).numpy())

    def reshape_for_head(self, states: Tensor) -> Tensor:
        """Reshape selected states [n, H] for the head: one text each [n, 1, H], or all as one text [1, n, H]."""
        return states[:, None] if self.positions == "first" else states[None]

    def select_positions(self, _: nn.Module, __: Any, kwargs: dict[str, Any], output: Any) -> Any:
        """Forward hook: reduce the encoder's output [1, T, H] to the positions that the head needs."""
        states = output[0][0].index_select(0, kwargs["layout"].head_index)
        output["last_hidden_state"] = self.reshape_for_head(states)
        return output

    def remove_padding(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """Remove the padding of a batch [texts, length]: inputs [1, T] with position ids and layout, without labels.

        T is rounded up to a multiple of TOKEN_MULTIPLE with filler tokens.
        """
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
    """Return the module whose output the head gets: the encoder without its pooler, if it is a separate module."""
    base = model.base_model
    for name in ("encoder", "transformer"):
        if isinstance(getattr(base, name, None), nn.Module):
            return getattr(base, name)
    return base


def get_label_mask(batch: Mapping[str, Tensor]) -> Tensor:
    """Return the mask [texts, length] of positions with a label."""
    return batch["labels"] != IGNORE_INDEX


def get_last_bert_layer(model: PreTrainedModel) -> Any:
    """Return the last layer if it is built like BERT's (also RoBERTa's and ELECTRA's), else None."""
    layers = getattr(getattr(model.base_model, "encoder", None), "layer", None)
    last: Any = layers[-1] if layers else None
    try:
        parts = [last.attention.self.query, last.attention.self.key, last.attention.self.value, last.attention.output]
        is_plain = not last.is_decoder and last.chunk_size_feed_forward == 0 and callable(last.feed_forward_chunk)
    except AttributeError:
        return None
    return last if is_plain and all(isinstance(part, nn.Module) for part in parts) else None


def build_last_layer_forward(layer: Any, reshape: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Build the layer's forward for the positions that the head needs: [1, T, H] -> [n, H], reshaped.

    Queries are those of the positions; keys and values those of all tokens.
    """
    attention = layer.attention.self

    def forward(hidden: Tensor, *_: Any, layout: Layout, **__: Any) -> Tensor:
        tokens = hidden[0]
        selected = tokens.index_select(0, layout.head_index)
        shape = (-1, attention.num_attention_heads, attention.attention_head_size)
        queries = attention.query(selected).view(shape).split(layout.head_sizes)
        keys = attention.key(tokens).view(shape).split(layout.group_sizes)
        values = attention.value(tokens).view(shape).split(layout.group_sizes)
        dropout = attention.dropout.p if attention.training else 0.0
        outputs = []
        for i, (group, head_group) in enumerate(zip(layout.groups, layout.head_groups, strict=True)):
            if layout.head_sizes[i]:
                query = unpack_heads(queries[i], head_group)
                key, value = unpack_heads(keys[i], group), unpack_heads(values[i], group)
                out = masked_attention(query, key, value, group.padding, dropout, attention.scaling)
                outputs.append(Pack.apply(out.transpose(1, 2).flatten(0, 1), head_group).flatten(1))
        if not outputs:  # no text of a pass of a masked language model has a label
            outputs.append(values[0][:0].flatten(1))
        return reshape(layer.feed_forward_chunk(layer.attention.output(torch.cat(outputs), selected)))

    return forward
