"""Scripts that put no space between words: there a character is what a word is elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence

# A word of a script without spaces is a run of its characters: Chinese, Japanese, Thai, Lao, Khmer, Burmese.
UNSPACED_SCRIPT_CHARACTER = r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"


def is_unspaced_script(texts: Sequence[str]) -> bool:
    """Whether most letters of the texts belong to a script without spaces."""
    sample = "".join(texts[:1000])
    letters = sum(char.isalpha() for char in sample)
    return len(re.findall(UNSPACED_SCRIPT_CHARACTER, sample)) * 2 > letters
