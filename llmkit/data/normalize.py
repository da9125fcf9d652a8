"""Text normalization that defines when two texts count as equal: case, white space and Unicode composition."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from llmkit.data.rows import Rows


def normalize_text(text: str) -> str:
    """Case-fold and compose (NFC) the text, collapse each run of white space to one space and strip the ends."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(text.casefold().split())


def normalize_rows(rows: Rows, fields: Sequence[str]) -> list[str]:
    """Return one key per row: its normalized cells of `fields`, joined."""
    columns = [[normalize_text(text) for text in rows.texts(field)] for field in fields]
    # Normalized text contains no line break, so the joined cells are unambiguous.
    return ["\n".join(cells) for cells in zip(*columns, strict=True)]
