"""What a word is to the metrics of generated text; a signature names the way."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

from llmkit.data.cleaning.filters import WORD_UNIT
from llmkit.data.cleaning.words import WORD_PATTERN

# Of the letters of the references, in per cent. rouge_score's tokenizer knows a-z and 0-9 only: it halves the words of
# accented text (French has 3 to 4 % of such letters) and leaves nothing of Russian. English papers stay well below.
MAX_NON_ASCII_PERCENT = 1


class MetricTokenizer(NamedTuple):
    """How a text is cut into words (each text once: several metrics read them), and what a signature says of it."""

    tokenize: Callable[[str], Sequence[str]]
    signature: tuple[str, ...]


def make_metric_tokenizer(characters: bool) -> MetricTokenizer:
    """Words of any script: runs of letters, marks and digits, lower case, NFKC.

    With `characters` each character of a script without spaces is a word; words and numbers of others stay whole.
    """
    pattern, name = (WORD_UNIT, "characters") if characters else (WORD_PATTERN, "words")
    cut = cache(lambda text: pattern.findall(unicodedata.normalize("NFKC", text).lower()))
    return MetricTokenizer(cut, (f"tok:{name}",))


def make_rouge_tokenizer(references: Sequence[Sequence[str]], characters: bool) -> MetricTokenizer:
    """The words that ROUGE compares: rouge_score's own, Porter-stemmed, where the references are written in a-z.

    Else those of `words`, as they stand: rouge_score drops every other letter, and its scores would be 0.
    """
    if characters or has_non_ascii_letters(text for row in references for text in row):
        own = make_metric_tokenizer(characters)
        return MetricTokenizer(own.tokenize, (*own.signature, "stemmer:none"))
    from importlib.metadata import version

    from nltk.stem.porter import PorterStemmer
    from rouge_score.tokenize import tokenize

    # A text repeats its words, and the stemmer is slow.
    stemmer = SimpleNamespace(stem=cache(PorterStemmer().stem))
    signature = (f"tok:rouge_score {version('rouge_score')}", "stemmer:porter")
    return MetricTokenizer(cache(lambda text: tokenize(text, stemmer)), signature)


def has_non_ascii_letters(texts: Iterable[str]) -> bool:
    """Whether more than `FOREIGN` per cent of the letters of the texts are not a-z."""
    letters = other = 0
    for text in texts:
        if text.isascii():
            letters += sum(map(str.isalpha, text))
            continue
        found = [char for char in text if char.isalpha()]
        letters += len(found)
        other += sum(char > "\x7f" for char in found)
    return 100 * other > MAX_NON_ASCII_PERCENT * letters
