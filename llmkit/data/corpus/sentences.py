"""Where the sentences of a text end, by a small rule that needs no download.

A sentence ends at a line break; after 。！？ and their like; and after . ! ? … with the quotes and brackets that close
on them, before a Chinese or Japanese character, or before white space where the next word has a capital, a digit or no
case. It does not end after an abbreviation, an initial (J. Smith) or dotted letters (e.g., U.S.): a sentence too long
is the lesser mistake. A text without any capital ends its sentences at each such sign that stands before white space.
"""

from __future__ import annotations

from collections.abc import Iterator

import regex

CLOSING_MARKS = r"""[”’"'»）)\]」』】〉》]*+"""
# Possessive, and a run of signs is tried from its beginning only: the time stays in proportion to the text.
SENTENCE_END = regex.compile(
    rf"\n|[。！？｡]++{CLOSING_MARKS}|(?<![.!?…])[.!?…]++{CLOSING_MARKS}(?=[\p{{Han}}\p{{Hiragana}}\p{{Katakana}}])"
    rf"|(?<![.!?…])(?P<sign>[.!?…]++){CLOSING_MARKS}(?=\s)"
)
TRAILING_WORD = regex.compile(r"[\p{L}\p{M}\p{N}.’'-]+$")
DOTTED_LETTERS = regex.compile(r"\p{L}|(?:\p{L}{1,2}\.)+\p{L}{1,2}")  # an initial, e.g, i.e, U.S, Ph.D
SENTENCE_START = regex.compile(r"[^\p{L}\p{N}]*+(?:[\p{L}\p{N}--\p{Ll}]|$)", flags=regex.VERSION1)
CONTEXT_CHARS = 40  # characters to look at on either side: longer than any abbreviation
# A name, a number or more of the same follows these, not a sentence.
ABBREVIATIONS = frozenset(
    """
    mr mrs ms dr prof st mt sen rep gov gen col lt capt sgt rev hon pres messrs vs cf al approx ca viz resp incl
    eg ie jan feb mar apr jun jul aug sep sept oct nov dec
    """.split()  # noqa: SIM905
)
NUMBER_ABBREVIATIONS = frozenset("no nos fig figs eq eqs eqn sec ch vol pp p art ref refs tab".split())  # noqa: SIM905


def split_sentences(text: str) -> list[str]:
    """The sentences of `text` in order, without white space around them; none of them is empty."""
    return [text[start:end] for start, end in find_sentence_spans(text)]


def take_first_sentences(text: str, number: int) -> str:
    """The first `number` sentences of `text`, as they stand in it."""
    found = [span for span, _ in zip(find_sentence_spans(text), range(number), strict=False)]
    return text[found[0][0] : found[-1][1]] if found else ""


def find_sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where each sentence begins and ends in `text`."""
    cased = any(map(str.isupper, text))
    start = 0
    for found in SENTENCE_END.finditer(text):
        if found["sign"] and not is_sentence_end(text, found.start(), found["sign"], found.end(), cased):
            continue
        yield from trim_span(text, start, found.end())
        start = found.end()
    yield from trim_span(text, start, len(text))


def trim_span(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """The same span without white space at its ends, nothing where it holds nothing else."""
    part = text[start:end]
    if part.strip():
        yield end - len(part.lstrip()), start + len(part.rstrip())


def is_sentence_end(text: str, at: int, sign: str, after: int, cased: bool) -> bool:
    """Whether a sentence ends with the sign at `at`; what follows it begins at `after`."""
    following = text[after : after + CONTEXT_CHARS].lstrip()
    if cased and not SENTENCE_START.match(following):
        return False
    word = TRAILING_WORD.search(text[max(at - CONTEXT_CHARS, 0) : at])
    if sign != "." or word is None:
        return True
    last = word[0].lower().strip("'’-.")
    if last in NUMBER_ABBREVIATIONS:
        return not following[:1].isdigit()
    return last not in ABBREVIATIONS and (last == "i" or not DOTTED_LETTERS.fullmatch(last))
