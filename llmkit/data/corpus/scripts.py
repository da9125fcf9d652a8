"""Detects scripts without spaces between words, in which llmkit counts characters instead of words."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Scripts without spaces between words: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
UNSPACED_SCRIPT_CHARACTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def is_unspaced_script(texts: Sequence[str]) -> bool:
    """Return whether most letters of the texts belong to a script without spaces."""
    sample = "".join(texts[:1000])
    letters = sum(char.isalpha() for char in sample)
    return len(re.findall(UNSPACED_SCRIPT_CHARACTER, sample)) * 2 > letters
