"""Tokens as a user would write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from llmkit.data.corpus.scripts import UNSPACED_SCRIPT_CHARACTER

UNSPACED_CHARACTER = (
    UNSPACED_SCRIPT_CHARACTER.removesuffix("]") + r"\u3000-\u303f\uff00-\uffef]"
)  # with their punctuation
INSERTED_SPACES = re.compile(rf"(?<={UNSPACED_CHARACTER})\s+(?={UNSPACED_CHARACTER})")
WORDPIECE_PREFIX = "##"  # what begins such a piece in a WordPiece vocabulary


def decode_token_ids(tokenizer: PreTrainedTokenizerBase, answers: Sequence[Sequence[int]]) -> list[str]:
    """The answers of a decoder as text, without special tokens.

    WordPiece decoders put a space between any two words; between two characters of a script without spaces it goes.
    """
    words = {"use_source_tokenizer": False} if hasattr(tokenizer, "spm_target") else {}  # Marian has two
    codes = set(getattr(tokenizer, "lang_token_to_id", {}).values())  # M2M100 does not take them for special
    said = tokenizer.batch_decode(
        [[token for token in one if token not in codes] for one in answers], skip_special_tokens=True, **words
    )
    if tokenizer.is_fast and type(tokenizer.backend_tokenizer.decoder).__name__ == "WordPiece":
        said = [INSERTED_SPACES.sub("", text) for text in said]
    return [text.strip() for text in said]


def fill_masks(
    text: str, masks: Sequence[Sequence[tuple[int, float]]], tokenizer: PreTrainedTokenizerBase
) -> tuple[str, list[dict[str, float]]]:
    """The text with the likeliest token in each of its masks, and for each mask the chance of every token by spelling.

    `masks`: (token, chance) of the likeliest for each mask, the likeliest first.
    """
    options = [key_by_text(tokenizer, one) for one in masks]
    parts = text.split(tokenizer.mask_token)
    whole = parts[0]
    for one, part in zip(options, parts[1:], strict=True):
        best = next(iter(one))
        # A piece that goes on with a word is written on to it.
        whole = (
            whole.rstrip() + best.removeprefix(WORDPIECE_PREFIX) if best.startswith(WORDPIECE_PREFIX) else whole + best
        )
        whole += part
    return whole, options


def key_by_text(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[tuple[int, float]]) -> dict[str, float]:
    """The chance of each token as a user would write it; of two that are written alike the second as it is stored."""
    found: dict[str, float] = {}
    for token, chance in tokens:
        stored = tokenizer.convert_ids_to_tokens(token)
        word = tokenizer.decode([token]).strip() or stored
        found[stored if word in found else word] = chance
    return found
