"""Tokenizers that split generated text into words for metrics; signatures name the tokenizer."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

from llmkit.data.cleaning.filters import WORD_UNIT
from llmkit.data.cleaning.words import WORD_PATTERN

# Of the letters of the references. rouge_score's tokenizer keeps a-z and 0-9 only: it splits the words of accented text
# (French has 3 to 4 % of such letters) and drops all of Russian. English papers have far fewer.
MAX_NON_ASCII_PERCENT = 1


class MetricTokenizer(NamedTuple):
    """Function from a text to its words (cached, because several metrics use them), and its part of the signature."""

    tokenize: Callable[[str], Sequence[str]]
    signature: tuple[str, ...]


def make_metric_tokenizer(characters: bool) -> MetricTokenizer:
    """Return a tokenizer for words of any script: runs of letters, marks and digits, lower case, NFKC.

    With `characters` each character of a script without spaces is a word; other words and numbers are not split.
    """
    pattern, name = (WORD_UNIT, "characters") if characters else (WORD_PATTERN, "words")
    tokenize = cache(lambda text: pattern.findall(unicodedata.normalize("NFKC", text).lower()))
    return MetricTokenizer(tokenize, (f"tok:{name}",))


def make_rouge_tokenizer(references: Sequence[Sequence[str]], characters: bool) -> MetricTokenizer:
    """Return the tokenizer for ROUGE: rouge_score's own with Porter stemming if the references are written in a-z.

    Otherwise return `make_metric_tokenizer` without stemming: rouge_score drops all other letters and would score 0.
    """
    if characters or has_non_ascii_letters(text for row in references for text in row):
        tokenizer = make_metric_tokenizer(characters)
        return MetricTokenizer(tokenizer.tokenize, (*tokenizer.signature, "stemmer:none"))
    from importlib.metadata import version

    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenize import tokenize

    # The stemmer is slow, and texts repeat their words.
    stemmer = SimpleNamespace(stem=cache(PorterStemmer().stem))
    signature = (f"tok:rouge_score {version('rouge_score')}", "stemmer:porter")
    return MetricTokenizer(cache(lambda text: tokenize(text, stemmer)), signature)


def has_non_ascii_letters(texts: Iterable[str]) -> bool:
    """Return whether more than `MAX_NON_ASCII_PERCENT` of the letters of the texts are not a-z."""
    letters = other = 0
    for text in texts:
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        text_letters = [char for char in text if char.isalpha()]
        letters += len(text_letters)
        other += sum(char > "\x7f" for char in text_letters)
    return 100 * other > MAX_NON_ASCII_PERCENT * letters
