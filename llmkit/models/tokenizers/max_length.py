"""Maximum input length of a model, in tokens."""

from __future__ import annotations

from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from llmkit.errors import ModelError
from llmkit.models import networks
from llmkit.models.sources.model_ref import ModelRef

MIN_UNLIMITED_LENGTH = 10**6  # transformers writes 10**30 for a tokenizer without a maximum length
# Families whose positions start at pad_token_id + 1: the rows of the position table before it are never used.
PAD_OFFSET_FAMILIES = frozenset({
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mpnet",
    "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
})  # fmt: skip

# Families with relative positions: they read any length, whatever maximum their tokenizer was saved with.
RELATIVE_POSITION_FAMILIES = frozenset({"longt5", "mt5", "switch_transformers", "t5", "umt5"})


def check_max_length(
    ref: ModelRef, config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> None:
    """Raise ModelError if the model has fewer positions than `max_length`, or `max_length` leaves no room for text."""
    limit = get_position_limit(config, tokenizer)
    if limit is not None and max_length > limit:
        raise ModelError(f"{ref.name}: model.max_length {max_length:,} exceeds its {limit:,} positions",
                         f"set model.max_length={limit}")  # fmt: skip
    check_min_length(ref, tokenizer, max_length)


def check_min_length(ref: ModelRef, tokenizer: PreTrainedTokenizerBase, max_length: int) -> None:
    """Raise ModelError if `max_length` has no room for text besides the special tokens."""
    minimum = tokenizer.num_special_tokens_to_add() + 1
    if max_length < minimum:
        raise ModelError(
            f"{ref.name}: model.max_length {max_length} leaves no room for text", f"set it to {minimum} or more"
        )


def get_default_max_length(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int:
    """Get the maximum input length that the model and tokenizer were saved with, in tokens; 512 without a limit."""
    limits = [
        n
        for n in (get_position_limit(config, tokenizer), tokenizer.model_max_length)
        if n is not None and 0 < n < MIN_UNLIMITED_LENGTH
    ]
    return min(limits, default=512)


def get_position_limit(config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase) -> int | None:
    """Get the number of tokens that the model can read; None if neither it nor its tokenizer has a limit.

    The model's positions take precedence: the tokenizer may hold a shorter length to which an earlier run truncated
    texts. Networks without attention read texts of any length.
    """
    if isinstance(config, networks.NetworkConfig):
        return None
    encoder = getattr(config, "encoder", None) or config.get_text_config()
    if encoder.model_type in RELATIVE_POSITION_FAMILIES:
        return None
    positions = getattr(encoder, "max_encoder_position_embeddings", getattr(encoder, "max_position_embeddings", None))
    if isinstance(positions, int) and encoder.model_type in PAD_OFFSET_FAMILIES:
        positions -= (encoder.pad_token_id or 0) + 1
    if isinstance(positions, int) and positions > 0:
        return positions
    saved = tokenizer.model_max_length
    return saved if isinstance(saved, int) and 0 < saved < MIN_UNLIMITED_LENGTH else None
