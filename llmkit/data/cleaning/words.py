"""Removes punctuation and stop words, for small classic models rather than pretraining: functions str -> str."""

from __future__ import annotations

from pathlib import Path

import regex

from llmkit.errors import DataError, MissingInputError

PUNCTUATION_MARK = regex.compile(r"(?<=\w)(['’])(?=\w)|[\p{P}$+<=>^`|~](?!\ufe0f)")
WORD_PATTERN = regex.compile(r"[\w\p{M}]+(?:['’][\w\p{M}]+)*+")


def remove_punctuation(text: str) -> str:
    """Replace punctuation by spaces; an apostrophe within a word is removed (`don't` becomes `dont`)."""
    return PUNCTUATION_MARK.sub(lambda match: "" if match[1] else " ", text)


def remove_words(text: str, words: frozenset[str]) -> str:
    """Remove the given lower-case words; words are separated by spaces and punctuation."""
    return WORD_PATTERN.sub(lambda match: "" if match[0].lower().replace("’", "'") in words else match[0], text)


def load_stop_words(source: str) -> frozenset[str]:
    """Load stop words: `english` for the list of scikit-learn, or a file with one word per line."""
    if source == "english":
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        return frozenset(ENGLISH_STOP_WORDS)
    try:
        lines = Path(source).read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        fix = "name a file with one word per line, or english for the built-in list"
        raise MissingInputError(f"--stop-words {source}: {error.strerror}", fix) from None
    except UnicodeDecodeError:
        raise DataError(f"--stop-words {source}: not UTF-8", "save it as UTF-8") from None
    words = frozenset(line.strip().lower().replace("’", "'") for line in lines) - {""}
    if not words:
        raise DataError(f"--stop-words {source}: no word in it", "write one word per line")
    return words
