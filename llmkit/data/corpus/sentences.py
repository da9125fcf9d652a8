"""Splits text into sentences by a small rule that needs no download.

A sentence ends at a line break; after 。！？ and similar marks; and after . ! ? … and closing quotes or brackets, if a
Chinese or Japanese character follows, or white space and a word that starts with a capital, a digit or a letter without
case. It does not end after an abbreviation, an initial (J. Smith) or dotted letters (e.g., U.S.): a sentence that is
too long is the lesser mistake. In a text without capitals a sentence ends at each such mark before white space.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

CLOSING_MARKS = r"""[”’"'»）)\]」』】〉》]*+"""
# Possessive quantifiers, and a run of marks is tried only from its beginning, keep the time linear in the text length.
SENTENCE_END = regex.compile(
    rf"\n|[。！？｡]++{CLOSING_MARKS}|(?<![.!?…])[.!?…]++{CLOSING_MARKS}(?=[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}])"
    rf"|(?<![.!?…])(?P<mark>[.!?…]++){CLOSING_MARKS}(?=\s)"
)
TRAILING_WORD = regex.compile(r"[\p{L}\p{M}\p{N}.’'-]+$")
DOTTED_LETTERS = regex.compile(r"\p{L}|(?:\p{L}{1,2}\.)+\p{L}{1,2}")  # an initial, e.g, i.e, U.S, Ph.D
SENTENCE_START = regex.compile(r"[^\p{L}\p{N}]*+(?:[\p{L}\p{N}--\p{Ll}]|$)", flags=regex.VERSION1)
CONTEXT_CHARS = 40  # characters to look at on either side: longer than any abbreviation
# These are followed by a name, a number or more of the same sentence.
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st mt sen rep gov gen col lt capt sgt rev hon pres messrs vs cf al approx ca viz resp incl
    eg ie jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)
NUMBER_ABBREVIATIONS = frozenset("no nos fig figs eq eqs eqn sec ch vol pp p art ref refs tab".split())  # noqa: SIM905


def split_sentences(text: str) -> list[str]:
    """Split the text into non-empty sentences, in order, without white space around them."""
    return [text[start:end] for start, end in find_sentence_spans(text)]


def take_first_sentences(text: str, number: int) -> str:
    """Return the beginning of `text` up to the end of its sentence `number`."""
    spans = [span for span, _ in zip(find_sentence_spans(text), range(number), strict=False)]
    return text[spans[0][0] : spans[-1][1]] if spans else ""


def find_sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the start and end offset of each sentence."""
    cased = any(map(str.isupper, text))
    start = 0
    for match in SENTENCE_END.finditer(text):
        if match["mark"] and not is_sentence_end(text, match.start(), match["mark"], match.end(), cased):
            continue
        yield from trim_span(text, start, match.end())
        start = match.end()
    yield from trim_span(text, start, len(text))


def trim_span(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the span without white space at its ends, or nothing if it is blank."""
    part = text[start:end]
    if part.strip():
        yield end - len(part.lstrip()), start + len(part.rstrip())


def is_sentence_end(text: str, position: int, mark: str, end: int, cased: bool) -> bool:
    """Return whether a sentence ends with the mark at `position`; the text after mark and quotes starts at `end`."""
    following = text[end : end + CONTEXT_CHARS].lstrip()
    if cased and not SENTENCE_START.match(following):
        return False
    word = TRAILING_WORD.search(text[max(position - CONTEXT_CHARS, 0) : position])
    if mark != "." or word is None:
        return True
    last = word[0].lower().strip("'’-.")
    if last in NUMBER_ABBREVIATIONS:
        return not following[:1].isdigit()
    return last not in ABBREVIATIONS and (last == "i" or not DOTTED_LETTERS.fullmatch(last))
