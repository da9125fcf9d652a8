"""The steps in the order in which they run: one table, and the walk of one document through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmkit.data.cleaning import characters, duplicates, filters, markup, words
from llmkit.errors import UsageError, suggest_spelling

DROPPED_TEXT_CHARS = 300  # characters that come back of a text that is dropped
MAX_ROUNDS = 10  # a step may make work for one before it; a text settles in two or three rounds


@dataclass(frozen=True)
class CleaningSettings:
    """What the steps are told. A range is (least, most), each None where it is open."""

    steps: tuple[str, ...]
    form: characters.UnicodeForm = "NFC"
    chars: tuple[int | None, int | None] = (None, None)
    words: tuple[int | None, int | None] = (None, None)
    script: tuple[str, ...] = ()
    script_share: float = 0.5
    near: float = duplicates.NEAR_THRESHOLD
    stop_words: frozenset[str] = frozenset()


class ChangeStep(NamedTuple):
    """A step that rewrites a document."""

    name: str
    description: str
    apply: Callable[[str, CleaningSettings], str]
    default: bool = True


class FilterStep(NamedTuple):
    """A step that says why a document goes, or None."""

    name: str
    description: str
    apply: Callable[[str, CleaningSettings], str | None]


# What a step may leave undone for another decides the order: ftfy reads control characters of C1 as what they were
# meant to be before they go; whitespace comes last, since every removal may leave some.
CHANGE_STEPS = (
    ChangeStep("html", "HTML to text: tags, scripts, styles and entities", lambda text, _: markup.strip_html(text)),
    ChangeStep(
        "broken", "wrongly decoded characters (Ã¶ for ö), by ftfy", lambda text, _: characters.fix_mojibake(text)
    ),
    ChangeStep(
        "control", "control and invisible characters", lambda text, _: characters.remove_control_characters(text)
    ),
    ChangeStep("form", "one Unicode form", lambda text, told: characters.normalize_unicode(text, told.form)),
    ChangeStep("lowercase", "lower case", lambda text, _: characters.lowercase_text(text), default=False),
    ChangeStep("stopwords", "stop words", lambda text, told: words.remove_words(text, told.stop_words), default=False),
    ChangeStep("punctuation", "punctuation", lambda text, _: words.remove_punctuation(text), default=False),
    ChangeStep(
        "whitespace", "runs of spaces and of empty lines", lambda text, _: characters.normalize_whitespace(text)
    ),
)
FILTER_STEPS = (
    FilterStep("empty", "nothing is left of the text", lambda text, _: None if text.strip() else "nothing is left"),
    FilterStep(
        "chars",
        "too few or too many characters",
        lambda text, told: filters.reject_by_length(len(text), *told.chars, "character"),
    ),
    FilterStep(
        "words",
        "too few or too many words",
        lambda text, told: filters.reject_by_length(len(filters.split_word_units(text)), *told.words, "word"),
    ),
    FilterStep(
        "script",
        "letters of other scripts",
        lambda text, told: filters.reject_by_script(text, told.script, told.script_share),
    ),
)
DUPLICATE_STEPS = (("duplicates", "the same text as one before"), ("near", "nearly the same text as one before"))
STEP_DESCRIPTIONS = {step.name: step.description for step in (*CHANGE_STEPS, *FILTER_STEPS)} | dict(DUPLICATE_STEPS)
STEP_NAMES = tuple(STEP_DESCRIPTIONS)
DEFAULT_STEPS = (*(step.name for step in CHANGE_STEPS if step.default), "empty", "duplicates", "near")
OPTION_BY_STEP = {"chars": "--chars", "words": "--words", "script": "--script", "stopwords": "--stop-words"}
SWITCHABLE_STEPS = tuple(name for name in STEP_NAMES if name != "empty" and name not in OPTION_BY_STEP)


def choose_steps(
    only: Sequence[str], skip: Sequence[str], also: Sequence[str], needed: Sequence[str]
) -> tuple[str, ...]:
    """The names of the steps to run, in the table's order. `needed` are those that another option asks for.

    Raises UsageError for a name that is none, or whose own option says it.
    """
    for flag, names in (("--only", only), ("--skip", skip), ("--also", also)):
        for name in names:
            if name not in SWITCHABLE_STEPS:
                mend = (
                    f"{OPTION_BY_STEP[name]} says it"
                    if name in OPTION_BY_STEP
                    else suggest_spelling(name, SWITCHABLE_STEPS)
                )
                raise UsageError(f"{flag} {name}: no step to switch", mend)
    wanted = {*(only or DEFAULT_STEPS), *also, *needed, "empty"} - set(skip)
    return tuple(name for name in STEP_NAMES if name in wanted)


class CleanedDocument(NamedTuple):
    """What became of one document. `removed`: the characters that each step took (below 0 where it added some)."""

    text: str
    removed: dict[str, int]
    dropped: str | None = None  # the step
    reason: str = ""
    digest: bytes = b""  # the same for the same text
    signature: bytes = b""  # alike for texts that are alike


def clean_document(text: str, told: CleaningSettings) -> CleanedDocument:
    """One document after all steps but the comparison with others, for which it is given its marks."""
    text, removed = apply_changes(text, told)
    for step in FILTER_STEPS:
        if step.name in told.steps and (why := step.apply(text, told)):
            return CleanedDocument(text[:DROPPED_TEXT_CHARS], removed, step.name, why)
    digest = duplicates.hash_normalized_text(text) if "duplicates" in told.steps else b""
    signature = duplicates.compute_minhash(text) if "near" in told.steps else b""
    return CleanedDocument(text, removed, digest=digest, signature=signature)


def apply_changes(text: str, told: CleaningSettings) -> tuple[str, dict[str, int]]:
    """`text` after the changes, walked through until none has anything to do, and what each step removed."""
    removed: dict[str, int] = {}
    settled: dict[str, str] = {}
    for _ in range(MAX_ROUNDS):
        begun = text
        for step in CHANGE_STEPS:
            if step.name not in told.steps or settled.get(step.name) == text:
                continue
            after = step.apply(text, told)
            if after != text:
                removed[step.name] = removed.get(step.name, 0) + len(text) - len(after)
            settled[step.name] = text = after
        if text == begun:
            break
    return text, removed
