"""Documents left out: each function says why one goes, or None where it stays."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import regex

from llmkit.data.row_errors import pluralize
from llmkit.errors import UsageError, find_nearest_word

# A word, or a character of a script that is written without spaces: there a character is what a word is elsewhere.
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
    """The words of `text`; in scripts without spaces its characters."""
    return WORD_UNIT.findall(text)


def reject_by_length(count: int, least: int | None, most: int | None, noun: str) -> str | None:
    """Why a text of so many characters or words goes."""
    if least is not None and count < least:
        return f"{pluralize(count, noun)}, fewer than {least:,}"
    if most is not None and count > most:
        return f"{pluralize(count, noun)}, more than {most:,}"
    return None


def reject_by_script(text: str, scripts: Sequence[str], least: float) -> str | None:
    """Why a text goes of whose letters less than the share `least` belongs to `scripts`."""
    letters = len(LETTER.findall(text))
    if not letters:
        return "no letters"
    share = len(compile_script_pattern(tuple(scripts)).findall(text)) / letters
    # Rounded down: a text just below the share is not said to have it.
    return None if share >= least else f"{int(share * 100)} % of the letters are {'/'.join(scripts)}"


@cache
def compile_script_pattern(scripts: tuple[str, ...]) -> regex.Pattern[str]:
    """The pattern of a letter of these scripts. Raises UsageError for a script that Unicode does not know."""
    for script in scripts:
        if not is_unicode_script(script):
            near = find_nearest_word(script, COMMON_SCRIPTS)
            mend = (
                f"did you mean '{near}'?" if near else f"known: {', '.join(COMMON_SCRIPTS)}, and all others of Unicode"
            )
            if script.lower() in SCRIPTS_BY_LANGUAGE:
                mend = f"a language's letters are meant: write {SCRIPTS_BY_LANGUAGE[script.lower()]}"
            raise UsageError(f"--script {script}: no script has that name", mend)
    named = "".join(rf"\p{{Script={script}}}" for script in scripts)
    return regex.compile(rf"(?V1)[\p{{L}}&&[{named}]]")


def is_unicode_script(name: str) -> bool:
    """Whether Unicode knows a script of that name."""
    try:
        return name.replace("_", "").isalnum() and regex.compile(rf"\p{{Script={name}}}") is not None
    except regex.error:
        return False
