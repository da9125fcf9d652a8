"""What a user can get wrong: one class per kind of mistake, each with the exit code that sysexits(3) gives it."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What steers a terminal or ends a line. Lone surrogates, which no stream can write, stand for the bytes of a file name
# that is no UTF-8.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
CONTROL_PATTERN = re.compile(f"[{CONTROL_CHARACTERS}]")
MAX_SHOWN_PLACES = 5  # bad rows are all counted; this many are shown


def sanitize_text(text: object) -> str:
    """`text` on one line without control characters: each becomes U+FFFD."""
    return CONTROL_PATTERN.sub("\N{REPLACEMENT CHARACTER}", str(text))


class LlmkitError(Exception):
    """A mistake that llmkit can name. `str()` gives `what; mend`, then up to five indented places.

    `message` says what was found and where (`FILE:LINE: what`), or is a list of several such sentences, a line each;
    `hint` says what mends it, `places` lists further `FILE:LINE: detail` lines, and `count` how many there are in all
    when `places` is only the beginning. Each is made `plain`, so that a cell, label or file name that a sentence quotes
    never makes a line of its own.
    """

    exit_code = 70

    def __init__(
        self, message: str | Sequence[str], fix: str = "", places: Sequence[str] = (), count: int | None = None
    ) -> None:
        sentences = [message] if isinstance(message, str) else message
        self.message, self.fix = "\nerror: ".join(map(sanitize_text, sentences)), sanitize_text(fix)
        self.places, self.count = tuple(map(sanitize_text, places)), len(places) if count is None else count
        super().__init__(str(self))

    def __str__(self) -> str:
        lines = [f"{self.message}; {self.fix}" if self.fix else self.message]
        lines += [f"  {place}" for place in self.places[:MAX_SHOWN_PLACES]]
        if self.count > MAX_SHOWN_PLACES and self.places:
            lines.append(f"  ... and {self.count - MAX_SHOWN_PLACES:,} more")
        return "\n".join(lines)


class UsageError(LlmkitError):
    """The command line itself is wrong."""

    exit_code = 64


class DataError(LlmkitError):
    """A row, a label or a file's form is wrong."""

    exit_code = 65


class MissingInputError(LlmkitError):
    """A named file, folder, package or column source is not there."""

    exit_code = 66


class NetworkError(LlmkitError):
    """The Hub or the network did not answer."""

    exit_code = 69


class InternalError(LlmkitError):
    """A promise of llmkit itself was broken, or the loss is no number any more."""

    exit_code = 70


class OutOfMemoryError(LlmkitError):
    """A batch did not fit into memory."""

    exit_code = 71


class OutputError(LlmkitError):
    """The output folder cannot be made or belongs to another run."""

    exit_code = 73


class DiskError(LlmkitError):
    """There is too little room to write, or writing failed."""

    exit_code = 74


class ModelError(LlmkitError):
    """The named model cannot do what is asked of it."""

    exit_code = 65


class RecipeError(LlmkitError):
    """A recipe or an override is wrong; every mistake in it is listed."""

    exit_code = 78


class RunInterrupted(BaseException):
    """A signal ended a run that can go on. No Exception: nothing on the way may take it for a fault."""

    exit_code = 75


def is_out_of_memory(fault: BaseException) -> bool:
    """Whether torch could not allocate, on a GPU or on the CPU; torch itself is not imported for the question."""
    named = isinstance(fault, MemoryError) or type(fault).__name__ == "OutOfMemoryError"
    return named or "can't allocate memory" in str(fault)


def find_nearest_word(word: str, known: Sequence[str]) -> str | None:
    """The known word that `word` most likely means, or None."""
    from difflib import get_close_matches

    lowered = {k.lower(): k for k in reversed(known)}
    begun = [k for k in lowered if k.startswith(word.lower())]
    if word and len(begun) == 1:
        return lowered[begun[0]]
    found = get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    inside = [k for k in reversed(lowered) if len(word) > 1 and word.lower() in k]
    return lowered[(found or inside)[0]] if found or inside else None


def suggest_spelling(word: str, known: Sequence[str]) -> str:
    """`did you mean 'x'?` where a known word is near, else the known words."""
    near = find_nearest_word(word, known)
    return f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
