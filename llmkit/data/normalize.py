"""The one meaning of "the same text": equal after case, white space and Unicode composition are normalised."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from llmkit.data.rows import Rows


def normalize_text(text: str) -> str:
    """`text` case-folded, composed (NFC), each run of white space one space, none at the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(text.casefold().split())


def normalize_rows(rows: Rows, words: Sequence[str]) -> list[str]:
    """One key a row over the cells of `words`."""
    columns = [[normalize_text(text) for text in rows.texts(word)] for word in words]
    # A key holds no line end, so joined keys cannot be mistaken for one another.
    return ["\n".join(cells) for cells in zip(*columns, strict=True)]
