"""The steps in the order in which they run: one table, and the walk of one document through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmkit.data.cleaning import characters, duplicates, filters, markup, words
from llmkit.errors import UsageError, did_you_mean

SHOWN = 300  # characters that come back of a text that is dropped
ROUNDS = 10  # a step may make work for one before it; a text settles in two or three rounds


@dataclass(frozen=True)
class Settings:
    """What the steps are told. A range is (least, most), each None where it is open."""

    steps: tuple[str, ...]
    form: characters.Form = "NFC"
    chars: tuple[int | None, int | None] = (None, None)
    words: tuple[int | None, int | None] = (None, None)
    script: tuple[str, ...] = ()
    script_share: float = 0.5
    near: float = duplicates.NEAR
    stop_words: frozenset[str] = frozenset()


class Change(NamedTuple):
    """A step that rewrites a document."""

    name: str
    about: str
    apply: Callable[[str, Settings], str]
    default: bool = True


class Filter(NamedTuple):
    """A step that says why a document goes, or None."""

    name: str
    about: str
    apply: Callable[[str, Settings], str | None]


# What a step may leave undone for another decides the order: ftfy reads control characters of C1 as what they were
# meant to be before they go; whitespace comes last, since every removal may leave some.
CHANGES = (
    Change("html", "HTML to text: tags, scripts, styles and entities", lambda text, _: markup.to_text(text)),
    Change("broken", "wrongly decoded characters (Ã¶ for ö), by ftfy", lambda text, _: characters.mended(text)),
    Change("control", "control and invisible characters", lambda text, _: characters.without_control(text)),
    Change("form", "one Unicode form", lambda text, told: characters.composed(text, told.form)),
    Change("lowercase", "lower case", lambda text, _: characters.lowered(text), default=False),
    Change("stopwords", "stop words", lambda text, told: words.without_words(text, told.stop_words), default=False),
    Change("punctuation", "punctuation", lambda text, _: words.without_punctuation(text), default=False),
    Change("whitespace", "runs of spaces and of empty lines", lambda text, _: characters.spaced(text)),
)
FILTERS = (
    Filter("empty", "nothing is left of the text", lambda text, _: None if text.strip() else "nothing is left"),
    Filter(
        "chars",
        "too few or too many characters",
        lambda text, told: filters.too_short_or_long(len(text), *told.chars, "character"),
    ),
    Filter(
        "words",
        "too few or too many words",
        lambda text, told: filters.too_short_or_long(len(filters.units(text)), *told.words, "word"),
    ),
    Filter(
        "script", "letters of other scripts", lambda text, told: filters.foreign(text, told.script, told.script_share)
    ),
)
DUPLICATES = (("duplicates", "the same text as one before"), ("near", "nearly the same text as one before"))
ABOUT = {step.name: step.about for step in (*CHANGES, *FILTERS)} | dict(DUPLICATES)
NAMES = tuple(ABOUT)
DEFAULTS = (*(step.name for step in CHANGES if step.default), "empty", "duplicates", "near")
OWN_OPTION = {"chars": "--chars", "words": "--words", "script": "--script", "stopwords": "--stop-words"}
SWITCHED = tuple(name for name in NAMES if name != "empty" and name not in OWN_OPTION)


def chosen(only: Sequence[str], skip: Sequence[str], also: Sequence[str], needed: Sequence[str]) -> tuple[str, ...]:
    """The names of the steps to run, in the table's order. `needed` are those that another option asks for.

    Raises UsageError for a name that is none, or whose own option says it.
    """
    for flag, names in (("--only", only), ("--skip", skip), ("--also", also)):
        for name in names:
            if name not in SWITCHED:
                mend = f"{OWN_OPTION[name]} says it" if name in OWN_OPTION else did_you_mean(name, SWITCHED)
                raise UsageError(f"{flag} {name}: no step to switch", mend)
    wanted = {*(only or DEFAULTS), *also, *needed, "empty"} - set(skip)
    return tuple(name for name in NAMES if name in wanted)


class Cleaned(NamedTuple):
    """What became of one document. `removed`: the characters that each step took (below 0 where it added some)."""

    text: str
    removed: dict[str, int]
    dropped: str | None = None  # the step
    why: str = ""
    digest: bytes = b""  # the same for the same text
    signature: bytes = b""  # alike for texts that are alike


def cleaned(text: str, told: Settings) -> Cleaned:
    """One document after all steps but the comparison with others, for which it is given its marks."""
    text, removed = rewritten(text, told)
    for step in FILTERS:
        if step.name in told.steps and (why := step.apply(text, told)):
            return Cleaned(text[:SHOWN], removed, step.name, why)
    digest = duplicates.digest(text) if "duplicates" in told.steps else b""
    signature = duplicates.signature(text) if "near" in told.steps else b""
    return Cleaned(text, removed, digest=digest, signature=signature)


def rewritten(text: str, told: Settings) -> tuple[str, dict[str, int]]:
    """`text` after the changes, walked through until none has anything to do, and what each step removed."""
    removed: dict[str, int] = {}
    settled: dict[str, str] = {}
    for _ in range(ROUNDS):
        begun = text
        for step in CHANGES:
            if step.name not in told.steps or settled.get(step.name) == text:
                continue
            after = step.apply(text, told)
            if after != text:
                removed[step.name] = removed.get(step.name, 0) + len(text) - len(after)
            settled[step.name] = text = after
        if text == begun:
            break
    return text, removed
