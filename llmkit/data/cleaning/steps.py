"""The table of cleaning steps in the order in which they run, and their application to one document."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from llmkit.data.cleaning import characters, duplicates, filters, markup, words
from llmkit.errors import UsageError, suggest_spelling

DROPPED_TEXT_CHARS = 300  # characters of a dropped text that a worker returns
MAX_ROUNDS = 10  # a step may make an earlier one necessary again; two or three rounds are usual


@dataclass(frozen=True)
class CleaningSettings:
    """The settings of the steps. A range is (minimum, maximum), with None for no limit."""

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
    """A step that returns the reason to drop a document, or None."""

    name: str
    description: str
    apply: Callable[[str, CleaningSettings], str | None]


# The order matters: ftfy decodes C1 control characters before they are removed, and whitespace comes last because every
# removal may leave some.
CHANGE_STEPS = (
    ChangeStep("html", "HTML to text: tags, scripts, styles and entities", lambda text, _: markup.strip_html(text)),
    ChangeStep(
        "broken", "wrongly decoded characters (Ã¶ for ö), by ftfy", lambda text, _: characters.fix_mojibake(text)
    ),
    ChangeStep(
        "control", "control and invisible characters", lambda text, _: characters.remove_control_characters(text)
    ),
    ChangeStep("form", "one Unicode form", lambda text, settings: characters.normalize_unicode(text, settings.form)),
    ChangeStep("lowercase", "lower case", lambda text, _: characters.lowercase_text(text), default=False),
    ChangeStep(
        "stopwords", "stop words", lambda text, settings: words.remove_words(text, settings.stop_words), default=False
    ),
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
        lambda text, settings: filters.reject_by_length(len(text), *settings.chars, "character"),
    ),
    FilterStep(
        "words",
        "too few or too many words",
        lambda text, settings: filters.reject_by_length(len(filters.split_word_units(text)), *settings.words, "word"),
    ),
    FilterStep(
        "script",
        "letters of other scripts",
        lambda text, settings: filters.reject_by_script(text, settings.script, settings.script_share),
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
    """Return the names of the steps to run, in the order of the table. `needed`: steps that another option needs.

    Raises UsageError for an unknown step and for a step that is controlled by its own option.
    """
    for flag, names in (("--only", only), ("--skip", skip), ("--also", also)):
        for name in names:
            if name not in SWITCHABLE_STEPS:
                own_option = OPTION_BY_STEP.get(name)
                fix = f"use {own_option} instead" if own_option else suggest_spelling(name, SWITCHABLE_STEPS)
                raise UsageError(f"{flag} {name}: not a step that can be switched on or off", fix)
    selected = {*(only or DEFAULT_STEPS), *also, *needed, "empty"} - set(skip)
    return tuple(name for name in STEP_NAMES if name in selected)


class CleanedDocument(NamedTuple):
    """The result of cleaning one document. `removed`: characters removed by each step, negative if it added some."""

    text: str
    removed: dict[str, int]
    dropped: str | None = None  # the name of the step that dropped it
    reason: str = ""
    digest: bytes = b""  # equal for equal texts
    signature: bytes = b""  # MinHash: similar for similar texts


def clean_document(text: str, settings: CleaningSettings) -> CleanedDocument:
    """Apply all steps to one document, except the comparison with others, for which its hashes are computed."""
    text, removed = apply_changes(text, settings)
    for step in FILTER_STEPS:
        if step.name in settings.steps and (reason := step.apply(text, settings)):
            return CleanedDocument(text[:DROPPED_TEXT_CHARS], removed, step.name, reason)
    digest = duplicates.hash_normalized_text(text) if "duplicates" in settings.steps else b""
    signature = duplicates.compute_minhash(text) if "near" in settings.steps else b""
    return CleanedDocument(text, removed, digest=digest, signature=signature)


def apply_changes(text: str, settings: CleaningSettings) -> tuple[str, dict[str, int]]:
    """Apply the change steps until the text is stable; return it with the number of characters each step removed."""
    removed: dict[str, int] = {}
    unchanged_by: dict[str, str] = {}  # the last text that each step has processed
    for _ in range(MAX_ROUNDS):
        before = text
        for step in CHANGE_STEPS:
            if step.name not in settings.steps or unchanged_by.get(step.name) == text:
                continue
            after = step.apply(text, settings)
            if after != text:
                removed[step.name] = removed.get(step.name, 0) + len(text) - len(after)
            unchanged_by[step.name] = text = after
        if text == before:
            break
    return text, removed
