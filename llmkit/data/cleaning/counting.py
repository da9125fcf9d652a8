"""What each step did: counted while the documents pass, with a few of those that went as examples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from unicodedata import unidata_version

from llmkit.data.cleaning.steps import STEP_DESCRIPTIONS, CleanedDocument, CleaningSettings
from llmkit.data.corpus.documents import Document
from llmkit.data.row_errors import join_names, pluralize
from llmkit.errors import DataError

MADE_BY = "llmkit data clean"
CLEANING_REPORT_SCHEMA = 1
MAX_STEP_EXAMPLES = 3  # a step
EXAMPLE_CHARS = 60  # characters of an example
REPORTED_LIBRARIES = ("llmkit", "selectolax", "ftfy", "regex", "datasketch")


@dataclass
class StepCounts:
    """What one step did, and where first. `removed` counts characters; below 0 where it added more than it took."""

    changed: int = 0
    removed: int = 0
    dropped: int = 0
    changed_in: list[str] = field(default_factory=list)
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass
class CleaningCounts:
    """What happened to all documents so far."""

    steps: dict[str, StepCounts]
    read: int = 0
    kept: int = 0
    characters_read: int = 0
    characters_kept: int = 0

    def add(self, document: Document, done: CleanedDocument) -> None:
        """Count one document."""
        self.read += 1
        self.characters_read += len(document.text)
        for name, characters in done.removed.items():
            step = self.steps[name]
            step.changed += 1
            step.removed += characters
            if len(step.changed_in) < MAX_STEP_EXAMPLES:
                step.changed_in.append(format_document_location(document))
        if done.dropped is None:
            self.kept += 1
            self.characters_kept += len(done.text)
            return
        step = self.steps[done.dropped]
        step.dropped += 1
        if len(step.examples) < MAX_STEP_EXAMPLES:
            begins = " ".join(done.text[: 4 * EXAMPLE_CHARS].split())[:EXAMPLE_CHARS]
            step.examples.append({"source": format_document_location(document), "why": done.reason, "text": begins})


def format_document_location(document: Document) -> str:
    """Where a document comes from."""
    return f"{document.name}:{document.number}"


def check_documents_left(counts: CleaningCounts) -> None:
    """Raise DataError where no document is left: it says which step dropped what."""
    if counts.kept:
        return
    if not counts.read:
        raise DataError("the corpus holds no text", "name files with texts in them")
    dropped = {name: step for name, step in counts.steps.items() if step.dropped}
    by = join_names([f"{step.dropped:,} by {name}" for name, step in dropped.items()])
    places = [
        f"{one['source']}: {name}: {one['why']}: {one['text']}"
        for name, step in dropped.items()
        for one in step.examples
    ]
    mend = "loosen that step, or leave it out"
    raise DataError(f"nothing is left of {pluralize(counts.read, 'document')}: dropped were {by}", mend, places)


def build_cleaning_report(
    counts: CleaningCounts, sources: list[str], reading: Mapping[str, Any], told: CleaningSettings
) -> dict[str, Any]:
    """The record of report.json. Nothing in it depends on the machine, the time or the number of workers."""
    return {
        "made_by": MADE_BY,
        "schema": CLEANING_REPORT_SCHEMA,
        "sources": sources,
        "options": {**reading, **describe_settings(told)},
        "documents": {"read": counts.read, "kept": counts.kept},
        "characters": {"read": counts.characters_read, "kept": counts.characters_kept},
        "steps": [
            {
                "step": name,
                "about": STEP_DESCRIPTIONS[name],
                "documents_changed": step.changed,
                "characters_removed": step.removed,
                "documents_dropped": step.dropped,
                "changed_in": step.changed_in,
                "dropped": step.examples,
            }
            for name, step in counts.steps.items()
        ],
        "versions": {**{name: version(name) for name in REPORTED_LIBRARIES}, "unicode": unidata_version},
    }


def describe_settings(told: CleaningSettings) -> dict[str, Any]:
    """What the steps were told, as JSON holds it."""
    return {
        "steps": list(told.steps),
        "form": told.form,
        "chars": list(told.chars),
        "words": list(told.words),
        "script": list(told.script),
        "script_share": told.script_share,
        "near": told.near,
        "stop_words": sorted(told.stop_words),
    }
