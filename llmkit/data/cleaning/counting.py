"""Counts the changes of each cleaning step, with examples of dropped documents, and builds report.json."""

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
MAX_STEP_EXAMPLES = 3
EXAMPLE_CHARS = 60
REPORTED_LIBRARIES = ("llmkit", "selectolax", "ftfy", "regex", "datasketch")


@dataclass
class StepCounts:
    """The effect of one step with its first locations. `removed` counts characters and is negative if it added more."""

    changed: int = 0
    removed: int = 0
    dropped: int = 0
    changed_in: list[str] = field(default_factory=list)
    examples: list[dict[str, str]] = field(default_factory=list)


@dataclass
class CleaningCounts:
    """The counts of all documents cleaned so far."""

    steps: dict[str, StepCounts]
    read: int = 0
    kept: int = 0
    characters_read: int = 0
    characters_kept: int = 0

    def add(self, document: Document, cleaned: CleanedDocument) -> None:
        """Count one document."""
        self.read += 1
        self.characters_read += len(document.text)
        for name, characters in cleaned.removed.items():
            step = self.steps[name]
            step.changed += 1
            step.removed += characters
            if len(step.changed_in) < MAX_STEP_EXAMPLES:
                step.changed_in.append(format_document_location(document))
        if cleaned.dropped is None:
            self.kept += 1
            self.characters_kept += len(cleaned.text)
            return
        step = self.steps[cleaned.dropped]
        step.dropped += 1
        if len(step.examples) < MAX_STEP_EXAMPLES:
            beginning = " ".join(cleaned.text[: 4 * EXAMPLE_CHARS].split())[:EXAMPLE_CHARS]
            source = format_document_location(document)
            step.examples.append({"source": source, "why": cleaned.reason, "text": beginning})


def format_document_location(document: Document) -> str:
    """Format the file and line of a document."""
    return f"{document.name}:{document.number}"


def check_documents_left(counts: CleaningCounts) -> None:
    """Raise DataError, with the steps that dropped the documents, if no document is left."""
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
    what = f"no text left: {pluralize(counts.read, 'document')} dropped, {by}"
    raise DataError(what, "loosen that step, or leave it out", places)


def build_cleaning_report(
    counts: CleaningCounts, sources: list[str], read_options: Mapping[str, Any], settings: CleaningSettings
) -> dict[str, Any]:
    """Build report.json, which does not depend on the machine, the time or the number of workers."""
    return {
        "made_by": MADE_BY,
        "schema": CLEANING_REPORT_SCHEMA,
        "sources": sources,
        "options": {**read_options, **describe_settings(settings)},
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


def describe_settings(settings: CleaningSettings) -> dict[str, Any]:
    """Convert the settings of the steps to JSON values."""
    return {
        "steps": list(settings.steps),
        "form": settings.form,
        "chars": list(settings.chars),
        "words": list(settings.words),
        "script": list(settings.script),
        "script_share": settings.script_share,
        "near": settings.near,
        "stop_words": sorted(settings.stop_words),
    }
