"""Words left out, for small classic models: pretraining wants them all. Functions str -> str."""

from __future__ import annotations

from pathlib import Path

import regex

from llmkit.errors import DataError, MissingInputError

PUNCTUATION_MARK = regex.compile(r"(?<=\w)(['’])(?=\w)|[\p{P}$+<=>^`|~](?!\ufe0f)")
WORD_PATTERN = regex.compile(r"[\w\p{M}]+(?:['’][\w\p{M}]+)*+")


def remove_punctuation(text: str) -> str:
    """`text` with a space for each sign; an apostrophe within a word goes without one (`don't` is `dont`)."""
    return PUNCTUATION_MARK.sub(lambda sign: "" if sign[1] else " ", text)


def remove_words(text: str, words: frozenset[str]) -> str:
    """`text` without those words (in lower case); a word is what stands between spaces and signs."""
    return WORD_PATTERN.sub(lambda word: "" if word[0].lower().replace("’", "'") in words else word[0], text)


def load_stop_words(source: str) -> frozenset[str]:
    """The words to leave out: `english`, the list of scikit-learn, or a file with one word a line."""
    if source == "english":
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    try:
        lines = Path(source).read_text(encoding="utf-8-sig").split("\n")
    except OSError as fault:
        mend = "name a file with one word a line, or the list that is called english"
        raise MissingInputError(f"--stop-words {source}: {fault.strerror}", mend) from None
    except UnicodeDecodeError:
        raise DataError(f"--stop-words {source}: not UTF-8", "save it as UTF-8") from None
    words = frozenset(line.strip().lower().replace("’", "'") for line in lines) - {""}
    if not words:
        raise DataError(f"--stop-words {source}: no word in it", "write one word a line")
    return words
