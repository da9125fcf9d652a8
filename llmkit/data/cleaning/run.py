"""Clean a corpus, top to bottom: read, change, filter, compare, write."""

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
from llmkit.data.cleaning.words import load_stop_words as read_stop_words
from llmkit.data.corpus.documents import Document, DocumentUnit, expand_path, list_corpus_sources, read_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import RowSource, can_be_hub_id
from llmkit.errors import DataError, RecipeError, UsageError, suggest_spelling
from llmkit.runs.manifest import write_json_file

REPORT_FILE = "report.json"
BATCH_CHARS = 2**18  # characters that go to a worker at once: enough that sending costs little, few enough to share out
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
    """The report on a corpus that was cleaned into `output_dir`: JSON lines `{"text", "source"}` and report.json.

    corpus, document, column, encoding: as `documents` reads them. only, skip, also: names of steps. chars, words:
    `LEAST:MOST` of a document, either may be missing. script: half of a document's letters are to be of these. near:
    the Jaccard similarity from which a document is dropped for one before. workers: processes, default one a core; they
    change nothing in the result. Raises UsageError for a wrong option, DataError and MissingInputError as reading
    does and where nothing is left, OutputError where `output_dir` is not empty; then nothing is written.
    """
    told = parse_settings(only, skip, also, chars, words, script, near, form, stop_words)
    if document not in ("line", "block", "file"):
        raise UsageError(f"--document {document}: unknown", suggest_spelling(document, ("line", "block", "file")))
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: out of range", "it must be at least 1")
    reading = ReadOptions(encoding=encoding, on_empty="skip")
    sources = resolve_sources(corpus)
    texts = name_flags_in_errors(read_documents(corpus, unit=document, column=column, options=reading))
    try:
        with create_folder_atomically(Path(output_dir)) as folder:
            counts = write_cleaned_texts(texts, told, folder, workers or count_available_cores())
            read = {"document": document, "column": column, "encoding": encoding}
            about = build_cleaning_report(counts, sources, read, told)
            write_json_file(folder / REPORT_FILE, about)
    except KeyboardInterrupt:
        console.print_message(f"nothing was written to {output_dir}")
        raise
    return about


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
    """What the steps are told. Raises UsageError for the first option that is wrong."""
    if form not in ("NFC", "NFKC"):
        raise UsageError(f"--form {form}: unknown", "write NFC or NFKC")
    if not 0.1 <= near <= 0.99:
        mend = "it must be from 0.1 to 0.99; --skip near keeps what is only alike"
        raise UsageError(f"--near {near}: out of range", mend)
    needed = {"chars": chars, "words": words, "script": script, "stopwords": stop_words}
    if script:
        compile_script_pattern(tuple(script))
    return CleaningSettings(
        steps.choose_steps(only, skip, also, [name for name, given in needed.items() if given]),
        form,
        parse_length_range("chars", chars),
        parse_length_range("words", words),
        tuple(script),
        near=near,
        stop_words=read_stop_words(stop_words) if stop_words else frozenset(),
    )


def parse_length_range(name: str, text: str | None) -> tuple[int | None, int | None]:
    """The least and the most that `20:500`, `20:` or `:500` stands for."""
    if text is None:
        return None, None
    matched = LENGTH_RANGE.fullmatch(text)
    if not matched or text == ":":
        raise UsageError(f"--{name} {text}: no range", f"write LEAST:MOST, such as --{name} 20: or --{name} 20:5000")
    least, most = (int(side) if side else None for side in matched.groups())
    if least is not None and most is not None and least > most:
        raise UsageError(f"--{name} {text}: {least} is above {most}", "write the smaller number first")
    return least, most


def resolve_sources(corpus: RowSource) -> list[str]:
    """The names of the sources, each of which is there: a missing last one is said before the first is read."""
    names = [str(one) for one in list_corpus_sources(corpus)]
    for name in names:
        path = resolve_path(name)
        if path.exists() or not can_be_hub_id(name):
            expand_path(name, path)
    return names


def name_flags_in_errors(texts: Iterator[Document]) -> Iterator[Document]:
    """`texts`, with mistakes that name the flag where reading names the key of a recipe."""
    try:
        yield from texts
    except (DataError, RecipeError) as fault:
        mend = fault.fix.replace("data.encoding=", "--encoding ")
        raise type(fault)(fault.message, mend, fault.places, fault.count) from fault


def write_cleaned_texts(
    texts: Iterable[Document], told: CleaningSettings, folder: Path, workers: int
) -> CleaningCounts:
    """What happened to all documents; those that stay are in `folder`, in their order."""
    running = [name for name in steps.STEP_NAMES if name in told.steps]
    counts = CleaningCounts({name: StepCounts() for name in running})
    seen = DuplicateIndex(told.near, "duplicates" in running, "near" in running)
    out = TextWriter(folder)
    try:
        with console.show_progress("cleaning") as advance:
            for piece, results in map_in_order(partial(clean_batch, told=told), batch_documents(texts), workers):
                for document, done in zip(piece, results, strict=True):
                    done = drop_duplicate(document, done, seen)
                    counts.add(document, done)
                    if done.dropped is None:
                        out.write(done.text, format_document_location(document))
                advance(len(piece), [f"{counts.kept:,} kept"])
    finally:
        out.close()
    check_documents_left(counts)
    return counts


def batch_documents(texts: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in lists that are worth sending to another process."""
    held: list[Document] = []
    size = 0
    for one in texts:
        held.append(one)
        size += len(one.text) + 100  # short ones cost too
        if size >= BATCH_CHARS:
            yield held
            held, size = [], 0
    if held:
        yield held


def clean_batch(piece: list[Document], told: CleaningSettings) -> list[CleanedDocument]:
    """What a worker does: what became of each document."""
    return [clean_document(one.text, told) for one in piece]


def drop_duplicate(document: Document, done: CleanedDocument, seen: DuplicateIndex) -> CleanedDocument:
    """`done`, or dropped where an equal or a similar document came before it."""
    if done.dropped is not None:
        return done
    step, why = seen.match_or_add(done.digest, done.signature, document)
    return done if step is None else done._replace(dropped=step, reason=why)
