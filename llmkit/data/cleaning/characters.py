"""Characters that no reader sees, broken ones, and the many ways to spell one: functions str -> str."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any, Literal

import regex

Form = Literal["NFC", "NFKC"]

PLAIN = regex.compile(r"[\t\n\r\x20-\x7e]*+")  # most English texts: nothing to look for
PAGE_ENDS = regex.compile(r"[\x0b\x0c\x1c-\x1e]")  # they part words, so a line end stays
# Cf that is seen or spells words (Arabic signs of numbers, the Mongolian vowel separator ...) is not in here.
UNSEEN = r"\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\p{Cs}"
DIRECTIONS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
RIGHT_TO_LEFT = regex.compile(r"[\p{Bidi_Class=R}\p{Bidi_Class=AL}]")
UNJOINED = r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\u0300-\u036f\ufe00-\ufe0f"
PICTURE = r"\p{Extended_Pictographic}"
UNSPACED = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}\p{Balinese}"
# Each alternative takes out what stands where it means nothing:
INVISIBLE = (
    rf"[{UNSEEN}\p{{Noncharacter_Code_Point}}]"
    # zero-width space: between letters of scripts without spaces it parts words
    rf"|(?<![{UNSPACED}])\u200b|\u200b(?![{UNSPACED}])"
    # joiners: within emoji sequences, and after letters and marks of scripts that join (Arabic, Indic ...)
    rf"|(?V1)(?<![[\p{{L}}\p{{M}}]--[{UNJOINED}]])(?<![{PICTURE}\p{{Emoji_Modifier}}\ufe0f](?=\u200d{PICTURE}))[\u200c\u200d]"
    # tags: only in the flags of England, Scotland and Wales
    r"|(?<!\U0001F3F4[\U000E0020-\U000E007F]*)[\U000E0001\U000E0020-\U000E007F]"
)
HIDDEN = regex.compile(rf"(?V1){INVISIBLE.replace('(?V1)', '')}")
HIDDEN_OR_DIRECTION = regex.compile(rf"(?V1){INVISIBLE.replace('(?V1)', '')}|[{DIRECTIONS}]")

LINE_ENDS = regex.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
BLANKS = regex.compile(r"[\t\p{Zs}]+")
AROUND_LINE_ENDS = regex.compile(r" *+\n *+")
EMPTY_LINES = regex.compile(r"\n{3,}")
EVERYTHING = regex.compile(r"(?s).*")


def without_control(text: str) -> str:
    """`text` without control and invisible characters.

    Joiners stay in emoji and in the scripts that spell with them, marks of direction where a letter runs from right to
    left, a zero-width space where it parts words of a script without spaces.
    """
    if PLAIN.fullmatch(text):
        return text
    text = PAGE_ENDS.sub("\n", text)
    return (HIDDEN if RIGHT_TO_LEFT.search(text) else HIDDEN_OR_DIRECTION).sub("", text)


def mended(text: str) -> str:
    """`text` with wrongly decoded characters put right (`schÃ¶n` is `schön`), by ftfy; quotes and widths stay."""
    if text.isascii() and "\x1b" not in text:
        return text
    from ftfy import fix_text

    return fix_text(text, mending())


@cache
def mending() -> Any:
    """Of all that ftfy can do: what is broken. The rest is taste, or a step of its own."""
    from ftfy import TextFixerConfig

    return TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
    )


def composed(text: str, form: Form) -> str:
    """`text` in a Unicode form: NFC changes no sign, NFKC makes compatible ones alike (`ﬁ` `Ａ` `①`)."""
    return text if text.isascii() else unicodedata.normalize(form, text)


def spaced(text: str) -> str:
    """`text` with one kind of line end and of space, no runs of them, none at the ends; one empty line at most."""
    text = LINE_ENDS.sub("\n", text)
    text = BLANKS.sub(" ", text)
    text = AROUND_LINE_ENDS.sub("\n", text)
    return EMPTY_LINES.sub("\n\n", text).strip(" \n")


def lowered(text: str) -> str:
    """`text` in lower case."""
    return text.lower()
