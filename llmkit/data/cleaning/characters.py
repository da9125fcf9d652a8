"""Removes invisible characters, repairs wrongly decoded ones and normalizes the rest: functions str -> str."""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any, Literal

import regex

UnicodeForm = Literal["NFC", "NFKC"]

PLAIN_ASCII = regex.compile(r"[\t\n\r\x20-\x7e]*+")  # most English texts: nothing to remove
PAGE_BREAKS = regex.compile(r"[\x0b\x0c\x1c-\x1e]")  # they separate words, so they become a line end
# Format characters (Cf) that are visible or part of words (Arabic number signs, the Mongolian vowel separator ...) are
# left out.
UNSEEN_CHARACTERS = r"\x00-\x08\x0e-\x1b\x1f\x7f-\x9f\u00ad\u2060-\u2064\u206a-\u206f\ufeff\ufff9-\ufffb\p{Cs}"
DIRECTION_MARKS = r"\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
RIGHT_TO_LEFT = regex.compile(r"[\p{Bidi_Class=R}\p{Bidi_Class=AL}]")
SCRIPTS_WITHOUT_JOINERS = (
    r"\p{Latin}\p{Greek}\p{Cyrillic}\p{Han}\p{Hiragana}\p{Katakana}\p{Hangul}\u0300-\u036f\ufe00-\ufe0f"
)
PICTOGRAPH = r"\p{Extended_Pictographic}"
ZERO_WIDTH_SPACE_SCRIPTS = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}\p{Javanese}\p{Balinese}"
# Each alternative matches characters where they have no meaning:
INVISIBLE_PATTERN = (
    rf"[{UNSEEN_CHARACTERS}\p{{Noncharacter_Code_Point}}]"
    # zero-width spaces, except between letters of scripts without spaces, where they separate words
    rf"|(?<![{ZERO_WIDTH_SPACE_SCRIPTS}])\u200b|\u200b(?![{ZERO_WIDTH_SPACE_SCRIPTS}])"
    # joiners, except in emoji sequences and after letters and marks of scripts that join (Arabic, Indic ...)
    rf"|(?V1)(?<![[\p{{L}}\p{{M}}]--[{SCRIPTS_WITHOUT_JOINERS}]])(?<![{PICTOGRAPH}\p{{Emoji_Modifier}}\ufe0f](?=\u200d{PICTOGRAPH}))[\u200c\u200d]"
    # tags, except in the flags of England, Scotland and Wales
    r"|(?<!\U0001F3F4[\U000E0020-\U000E007F]*)[\U000E0001\U000E0020-\U000E007F]"
)
INVISIBLE_CHARACTER = regex.compile(rf"(?V1){INVISIBLE_PATTERN.replace('(?V1)', '')}")
INVISIBLE_OR_DIRECTION = regex.compile(rf"(?V1){INVISIBLE_PATTERN.replace('(?V1)', '')}|[{DIRECTION_MARKS}]")

ANY_LINE_END = regex.compile(r"\r\n?|[\x0b\x0c\x85\u2028\u2029]")
BLANK_RUN = regex.compile(r"[\t\p{Zs}]+")
SPACES_AROUND_LINE_END = regex.compile(r" *+\n *+")
EMPTY_LINE_RUN = regex.compile(r"\n{3,}")


def remove_control_characters(text: str) -> str:
    """Remove control and invisible characters.

    Kept are joiners in emoji and in scripts that need them, direction marks in texts with right-to-left letters, and
    zero-width spaces between words of scripts without spaces.
    """
    if PLAIN_ASCII.fullmatch(text):
        return text
    text = PAGE_BREAKS.sub("\n", text)
    return (INVISIBLE_CHARACTER if RIGHT_TO_LEFT.search(text) else INVISIBLE_OR_DIRECTION).sub("", text)


def fix_mojibake(text: str) -> str:
    """Repair wrongly decoded characters (`schÃ¶n` becomes `schön`) with ftfy; quotes and widths are kept."""
    if text.isascii() and "\x1b" not in text:
        return text
    from ftfy import fix_text

    return fix_text(text, build_ftfy_config())


@cache
def build_ftfy_config() -> Any:
    """Configure ftfy to repair wrong decoding only; other changes are a matter of taste or have their own step."""
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


def normalize_unicode(text: str, form: UnicodeForm) -> str:
    """Normalize to a Unicode form: NFC keeps every character, NFKC also replaces compatibility forms (`ﬁ` `Ａ` `①`)."""
    return text if text.isascii() else unicodedata.normalize(form, text)


def normalize_whitespace(text: str) -> str:
    """Unify line ends and spaces, remove runs and outer white space, and keep at most one empty line in a row."""
    text = ANY_LINE_END.sub("\n", text)
    text = BLANK_RUN.sub(" ", text)
    text = SPACES_AROUND_LINE_END.sub("\n", text)
    return EMPTY_LINE_RUN.sub("\n\n", text).strip(" \n")


def lowercase_text(text: str) -> str:
    """Return the text in lower case."""
    return text.lower()
