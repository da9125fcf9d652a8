"""Tokens as a user would write them."""

from __future__ import annotations

from typing import Any

from llmkit.models.tokenizers.detokenize import key_by_text


class Alike:
    """A tokenizer that writes two of its tokens alike, as byte-level ones do."""

    def decode(self, tokens: list[int]) -> str:
        return [" the", "the", " "][tokens[0]]

    def convert_ids_to_tokens(self, token: int) -> str:
        return ["Ġthe", "the", "Ġ"][token]


def test_tokens_that_are_written_alike_keep_their_own_chances() -> None:
    made: Any = Alike()
    assert key_by_text(made, [(1, 0.5), (0, 0.25), (2, 0.125)]) == {"the": 0.5, "Ġthe": 0.25, "Ġ": 0.125}
