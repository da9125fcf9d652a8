"""Converts token ids to readable text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.data.corpus.scripts import UNSPACED_SCRIPT_CHARACTER

# Characters of scripts without spaces, and their punctuation.
UNSPACED_CHARACTER = UNSPACED_SCRIPT_CHARACTER.removesuffix("]") + r"\u3000-\u303f\uff00-\uffef]"
INSERTED_SPACES = re.compile(rf"(?<={UNSPACED_CHARACTER})\s+(?={UNSPACED_CHARACTER})")
WORDPIECE_PREFIX = "##"  # of a token inside a word


def decode_token_ids(tokenizer: PreTrainedTokenizerBase, generated: Sequence[Sequence[int]]) -> list[str]:
    """Decode generated token ids to texts without special tokens.

    WordPiece decoders insert a space between words; it is removed between characters of scripts without spaces.
    """
    kwargs = {"use_source_tokenizer": False} if hasattr(tokenizer, "spm_target") else {}  # Marian has two vocabularies
    codes = set(getattr(tokenizer, "lang_token_to_id", {}).values())  # not special tokens in M2M100
    texts = tokenizer.batch_decode(
        [[token for token in row if token not in codes] for row in generated], skip_special_tokens=True, **kwargs
    )
    if tokenizer.is_fast and type(tokenizer.backend_tokenizer.decoder).__name__ == "WordPiece":
        texts = [INSERTED_SPACES.sub("", text) for text in texts]
    return [text.strip() for text in texts]


def fill_masks(
    text: str, masks: Sequence[Sequence[tuple[int, float]]], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[dict[str, float]]]:
    """Fill each mask of the text with its likeliest token; return the text and, for each mask, token -> probability.

    `masks`: (token id, probability) of the likeliest tokens of each mask, in descending order.
    """
    options = [key_by_text(tokenizer, tokens) for tokens in masks]
    parts = text.split(tokenizer.mask_token)
    filled = parts[0]
    for probabilities, part in zip(options, parts[1:], strict=True):
        best = next(iter(probabilities))
        # A continuation token is appended to the word without a space.
        if best.startswith(WORDPIECE_PREFIX):
            filled = filled.rstrip()
        filled += best.removeprefix(WORDPIECE_PREFIX) + part
    return filled, options


def key_by_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[tuple[int, float]]) -> dict[str, float]:
    """Map the readable text of each token to its probability; a second token of equal text keeps its stored form."""
    probabilities: dict[str, float] = {}
    for token, probability in tokens:
        stored = tokenizer.convert_ids_to_tokens(token)
        word = tokenizer.decode([token]).strip() or stored
        probabilities[stored if word in probabilities else word] = probability
    return probabilities
