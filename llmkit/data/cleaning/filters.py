"""Filters documents by length and script: each function returns the reason to drop one, or None to keep it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import regex

from llmkit.data.row_errors import pluralize
from llmkit.errors import UsageError, find_nearest_word

# A word, or one character of a script without spaces between words, where characters are counted instead.
UNSPACED_SCRIPTS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
WORD_UNIT = regex.compile(
    rf"(?V1)[{UNSPACED_SCRIPTS}]|[[\w\p{{M}}]--[{UNSPACED_SCRIPTS}]]+(?:['’][[\w\p{{M}}]--[{UNSPACED_SCRIPTS}]]+)*+"
)
LETTER = regex.compile(r"\p{L}")
COMMON_SCRIPTS = """
    arabic armenian bengali cyrillic devanagari ethiopic georgian greek gujarati gurmukhi han hangul hebrew hiragana
    kannada katakana khmer lao latin malayalam mongolian myanmar oriya sinhala tamil telugu thai tibetan
    """.split()  # noqa: SIM905
SCRIPTS_BY_LANGUAGE = {"english": "latin", "chinese": "han", "japanese": "han,hiragana,katakana", "korean": "hangul"}
SCRIPTS_BY_LANGUAGE |= {"russian": "cyrillic", "hindi": "devanagari"}


def split_word_units(text: str) -> list[str]:
    """Split into words, and into characters in scripts without spaces."""
    return WORD_UNIT.findall(text)


def reject_by_length(count: int, minimum: int | None, maximum: int | None, noun: str) -> str | None:
    """Return the reason to drop a text of `count` characters or words, or None."""
    if minimum is not None and count < minimum:
        return f"{pluralize(count, noun)}, fewer than {minimum:,}"
    if maximum is not None and count > maximum:
        return f"{pluralize(count, noun)}, more than {maximum:,}"
    return None


def reject_by_script(text: str, scripts: Sequence[str], min_share: float) -> str | None:
    """Return the reason to drop a text if less than `min_share` of its letters belong to `scripts`, or None."""
    letters = len(LETTER.findall(text))
    if not letters:
        return "no letters"
    share = len(compile_script_pattern(tuple(scripts)).findall(text)) / letters
    # Rounded down, so that a text just below the required share is not reported as having it.
    return None if share >= min_share else f"{int(share * 100)} % of the letters are {'/'.join(scripts)}"


@cache
def compile_script_pattern(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    """Compile the pattern of a letter of these scripts. Raises UsageError for a script that Unicode does not have."""
    for script in scripts:
        if not is_unicode_script(script):
            nearest = find_nearest_word(script, COMMON_SCRIPTS)
            known = f"known: {', '.join(COMMON_SCRIPTS)}, and all others of Unicode"
            fix = f"did you mean '{nearest}'?" if nearest else known
            if script.lower() in SCRIPTS_BY_LANGUAGE:
                fix = f"it is a language, name its script: {SCRIPTS_BY_LANGUAGE[script.lower()]}"
            raise UsageError(f"--script {script}: no script has that name", fix)
    classes = "".join(rf"\p{{Script={script}}}" for script in scripts)
    return regex.compile(rf"(?V1)[\p{{L}}&&[{classes}]]")


def is_unicode_script(name: str) -> bool:
    """Return whether Unicode has a script of that name."""
    try:
        return name.replace("_", "").isalnum() and regex.compile(rf"\p{{Script={name}}}") is not None
    except regex.error:
        return False
