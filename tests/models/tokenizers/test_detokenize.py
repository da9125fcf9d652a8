"""Readable token texts stay distinct."""

from __future__ import annotations

from typing import Any

from llmkit.models.tokenizers.detokenize import key_by_text


class AmbiguousTokenizer:
    """A tokenizer with two tokens of equal text, as in byte-level BPE."""

    def decode(self, tokens: list[int]) -> str:
        return [" the", "the", " "][tokens[0]]

    def convert_ids_to_tokens(self, token: int) -> str:
        return ["Ġthe", "the", "Ġ"][token]


def test_tokens_of_equal_text_keep_their_probabilities() -> None:
    tokenizer: Any = AmbiguousTokenizer()
    assert key_by_text(tokenizer, [(1, 0.5), (0, 0.25), (2, 0.125)]) == {"the": 0.5, "Ġthe": 0.25, "Ġ": 0.125}
