"""Errors that a user can fix: one class per kind of mistake, each with the exit code that sysexits(3) gives it."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Characters that control a terminal or end a line. Lone surrogates, which no stream can write, represent the bytes of a
# file name that is not UTF-8.
CONTROL_CHARACTERS = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
CONTROL_PATTERN = re.compile(f"[{CONTROL_CHARACTERS}]")
MAX_SHOWN_PLACES = 5  # bad rows are all counted; this many are shown


def sanitize_text(text: object) -> str:
    """`text` on one line without control characters: each becomes U+FFFD."""
    return CONTROL_PATTERN.sub("\N{REPLACEMENT CHARACTER}", str(text))


class LlmkitError(Exception):
    """An error that llmkit can explain. `str()` gives `message; fix`, then up to five indented places.

    `message` states the problem and its location (`FILE:LINE: problem`), or is a list of several, a line each; `fix`
    states the remedy, `places` lists further `FILE:LINE: detail` lines, and `count` their total number when `places`
    holds only the first. Each passes through `sanitize_text`, so that a quoted cell, label or file name never starts a
    line of its own.
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
    """A row, a label or the format of a file is wrong."""

    exit_code = 65


class MissingInputError(LlmkitError):
    """A named file, folder, package or column is missing."""

    exit_code = 66


class NetworkError(LlmkitError):
    """The Hub or the network did not respond."""

    exit_code = 69


class InternalError(LlmkitError):
    """llmkit itself has failed, or the loss is NaN or infinite."""

    exit_code = 70


class OutOfMemoryError(LlmkitError):
    """A batch did not fit into memory."""

    exit_code = 71


class OutputError(LlmkitError):
    """The output folder cannot be created or belongs to another run."""

    exit_code = 73


class DiskError(LlmkitError):
    """The disk is full, or writing failed."""

    exit_code = 74


class ModelError(LlmkitError):
    """The named model cannot do what the recipe asks of it."""

    exit_code = 65


class RecipeError(LlmkitError):
    """A recipe or an override is wrong; every mistake in it is listed."""

    exit_code = 78


class RunInterrupted(BaseException):
    """A signal ended a run that can be resumed. Not an Exception: no handler may treat it as an error."""

    exit_code = 75


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch could not allocate, on a GPU or on the CPU; does not import torch."""
    known_class = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return known_class or "can't allocate memory" in str(error)


def find_nearest_word(word: str, known: Sequence[str]) -> str | None:
    """The known word that `word` most likely means, or None."""
    from difflib import get_close_matches

    lowered = {k.lower(): k for k in reversed(known)}
    prefixed = [k for k in lowered if k.startswith(word.lower())]
    if word and len(prefixed) == 1:
        return lowered[prefixed[0]]
    close = get_close_matches(word.lower(), list(lowered), n=1, cutoff=0.6)
    inside = [k for k in reversed(lowered) if len(word) > 1 and word.lower() in k]
    return lowered[(close or inside)[0]] if close or inside else None


def suggest_spelling(word: str, known: Sequence[str]) -> str:
    """`did you mean 'x'?` where a known word is near, else the known words."""
    near = find_nearest_word(word, known)
    return f"did you mean '{near}'?" if near else f"known: {', '.join(known)}"
