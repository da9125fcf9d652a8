"""Cleans a corpus: reads documents, applies the steps in worker processes, drops duplicates and writes the rest."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.cleaning import steps
from llmkit.data.cleaning.characters import UnicodeForm
from llmkit.data.cleaning.counting import (
    CleaningCounts,
    StepCounts,
    build_cleaning_report,
    check_documents_left,
    format_document_location,
)
from llmkit.data.cleaning.duplicates import NEAR_THRESHOLD, DuplicateIndex
from llmkit.data.cleaning.filters import compile_script_pattern
from llmkit.data.cleaning.output import TextWriter, create_folder_atomically
from llmkit.data.cleaning.pool import count_available_cores, map_in_order
from llmkit.data.cleaning.steps import CleanedDocument, CleaningSettings, clean_document
from llmkit.data.cleaning.words import load_stop_words
from llmkit.data.corpus.documents import Document, DocumentUnit, expand_path, list_corpus_sources, read_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import RowSource, can_be_hub_id
from llmkit.errors import DataError, RecipeError, UsageError, suggest_spelling
from llmkit.runs.manifest import write_json_file

REPORT_FILE = "report.json"
BATCH_CHARS = 2**18  # characters of a batch: large enough for cheap transfers, small enough to balance the workers
LENGTH_RANGE = re.compile(r"(\d*):(\d*)")


def clean(
    corpus: RowSource,
    output_dir: str | Path,
    *,
    document: DocumentUnit = "line",
    column: str | None = None,
    encoding: str = "utf-8",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    also: Sequence[str] = (),
    chars: str | None = None,
    words: str | None = None,
    script: Sequence[str] = (),
    near: float = NEAR_THRESHOLD,
    form: UnicodeForm = "NFC",
    stop_words: str | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Clean a corpus into `output_dir`, as JSON lines `{"text", "source"}` and report.json, and return the report.

    corpus, document, column, encoding: as in `read_documents`. only, skip, also: names of steps. chars, words: the
    allowed length of a document as `MIN:MAX`, either may be missing. script: half of the letters of a document must
    be of these scripts. near: the Jaccard similarity from which a document is dropped as similar to an earlier one.
    workers: processes, default one for each core; the result does not depend on them. Raises UsageError for a wrong
    option, DataError and MissingInputError for a corpus that cannot be read or of which no document is left, and
    OutputError if `output_dir` is not empty; then nothing is written.
    """
    settings = parse_settings(only, skip, also, chars, words, script, near, form, stop_words)
    if document not in ("line", "block", "file"):
        raise UsageError(f"--document {document}: unknown", suggest_spelling(document, ("line", "block", "file")))
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: out of range", "it must be at least 1")
    read_options = ReadOptions(encoding=encoding, on_empty="skip")
    sources = resolve_sources(corpus)
    documents = name_flags_in_errors(read_documents(corpus, unit=document, column=column, options=read_options))
    try:
        with create_folder_atomically(Path(output_dir)) as folder:
            counts = write_cleaned_texts(documents, settings, folder, workers or count_available_cores())
            reported = {"document": document, "column": column, "encoding": encoding}
            report = build_cleaning_report(counts, sources, reported, settings)
            write_json_file(folder / REPORT_FILE, report)
    except KeyboardInterrupt:
        console.print_message(f"nothing was written to {output_dir}")
        raise
    return report


def parse_settings(
    only: Sequence[str],
    skip: Sequence[str],
    also: Sequence[str],
    chars: str | None,
    words: str | None,
    script: Sequence[str],
    near: float,
    form: UnicodeForm,
    stop_words: str | None,
) -> CleaningSettings:
    """Parse the options of the steps. Raises UsageError for the first wrong option."""
    if form not in ("NFC", "NFKC"):
        raise UsageError(f"--form {form}: unknown", "write NFC or NFKC")
    if not 0.1 <= near <= 0.99:
        fix = "it must be from 0.1 to 0.99; --skip near keeps similar documents"
        raise UsageError(f"--near {near}: out of range", fix)
    needed = {"chars": chars, "words": words, "script": script, "stopwords": stop_words}
    if script:
        compile_script_pattern(tuple(script))
    return CleaningSettings(
        steps.choose_steps(only, skip, also, [name for name, value in needed.items() if value]),
        form,
        parse_length_range("chars", chars),
        parse_length_range("words", words),
        tuple(script),
        near=near,
        stop_words=load_stop_words(stop_words) if stop_words else frozenset(),
    )


def parse_length_range(name: str, text: str | None) -> tuple[int | None, int | None]:
    """Parse `20:500`, `20:` or `:500` into minimum and maximum, None for no limit."""
    if text is None:
        return None, None
    match = LENGTH_RANGE.fullmatch(text)
    if not match or text == ":":
        raise UsageError(f"--{name} {text}: not a range", f"write MIN:MAX, such as --{name} 20: or --{name} 20:5000")
    minimum, maximum = (int(side) if side else None for side in match.groups())
    if minimum is not None and maximum is not None and minimum > maximum:
        raise UsageError(f"--{name} {text}: {minimum} is above {maximum}", "write the smaller number first")
    return minimum, maximum


def resolve_sources(corpus: RowSource) -> list[str]:
    """Return the names of the sources after checking that each exists, before the first one is read."""
    names = [str(one) for one in list_corpus_sources(corpus)]
    for name in names:
        path = resolve_path(name)
        if path.exists() or not can_be_hub_id(name):
            expand_path(name, path)
    return names


def name_flags_in_errors(documents: Iterator[Document]) -> Iterator[Document]:
    """Yield the documents, with flags instead of recipe keys in the fixes of errors."""
    try:
        yield from documents
    except (DataError, RecipeError) as error:
        fix = error.fix.replace("data.encoding=", "--encoding ")
        raise type(error)(error.message, fix, error.places, error.count) from error


def write_cleaned_texts(
    documents: Iterable[Document], settings: CleaningSettings, folder: Path, workers: int
) -> CleaningCounts:
    """Clean the documents, write those that are kept into `folder` in their order, and return the counts."""
    names = [name for name in steps.STEP_NAMES if name in settings.steps]
    counts = CleaningCounts({name: StepCounts() for name in names})
    index = DuplicateIndex(settings.near, "duplicates" in names, "near" in names)
    writer = TextWriter(folder)
    work = partial(clean_batch, settings=settings)
    try:
        with console.show_progress("cleaning") as advance:
            for batch, results in map_in_order(work, batch_documents(documents), workers):
                for document, cleaned in zip(batch, results, strict=True):
                    cleaned = drop_duplicate(document, cleaned, index)
                    counts.add(document, cleaned)
                    if cleaned.dropped is None:
                        writer.write(cleaned.text, format_document_location(document))
                advance(len(batch), [f"{counts.kept:,} kept"])
    finally:
        writer.close()
    check_documents_left(counts)
    return counts


def batch_documents(documents: Iterable[Document]) -> Iterator[list[Document]]:
    """Batch the documents into lists that are large enough to send to a worker process."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text) + 100  # the cost of a document besides its characters
        if size >= BATCH_CHARS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def clean_batch(batch: list[Document], settings: CleaningSettings) -> list[CleanedDocument]:
    """Clean a batch of documents in a worker process."""
    return [clean_document(document.text, settings) for document in batch]


def drop_duplicate(document: Document, cleaned: CleanedDocument, index: DuplicateIndex) -> CleanedDocument:
    """Mark the document as dropped if an earlier one is equal or similar, else add it to the index."""
    if cleaned.dropped is not None:
        return cleaned
    step, reason = index.match_or_add(cleaned.digest, cleaned.signature, document)
    return cleaned if step is None else cleaned._replace(dropped=step, reason=reason)
