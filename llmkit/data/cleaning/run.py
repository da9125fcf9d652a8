"""Clean a corpus, top to bottom: read, change, filter, compare, write."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.cleaning import steps
from llmkit.data.cleaning.characters import Form
from llmkit.data.cleaning.counting import Counts, Step, place, refuse_nothing, report
from llmkit.data.cleaning.duplicates import NEAR, Seen
from llmkit.data.cleaning.filters import of_scripts
from llmkit.data.cleaning.output import Texts, appearing
from llmkit.data.cleaning.pool import cores, in_order
from llmkit.data.cleaning.steps import Cleaned, Settings, cleaned
from llmkit.data.cleaning.words import stop_words as read_stop_words
from llmkit.data.corpus.documents import Document, Unit, documents, parts, several
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import locate
from llmkit.data.readers.read import Source, may_be_hub_id
from llmkit.errors import DataError, RecipeError, UsageError, did_you_mean
from llmkit.runs.manifest import write_json

REPORT = "report.json"
PIECE = 2**18  # characters that go to a worker at once: enough that sending costs little, few enough to share out
RANGE = re.compile(r"(\d*):(\d*)")


def clean(
    corpus: Source,
    output_dir: str | Path,
    *,
    document: Unit = "line",
    column: str | None = None,
    encoding: str = "utf-8",
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
    also: Sequence[str] = (),
    chars: str | None = None,
    words: str | None = None,
    script: Sequence[str] = (),
    near: float = NEAR,
    form: Form = "NFC",
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
    told = settings(only, skip, also, chars, words, script, near, form, stop_words)
    if document not in ("line", "block", "file"):
        raise UsageError(f"--document {document}: unknown", did_you_mean(document, ("line", "block", "file")))
    if workers is not None and workers < 1:
        raise UsageError(f"--workers {workers}: out of range", "it must be at least 1")
    reading = ReadOptions(encoding=encoding, on_empty="skip")
    sources = found(corpus)
    texts = in_these_words(documents(corpus, unit=document, column=column, options=reading))
    try:
        with appearing(Path(output_dir)) as folder:
            counts = written(texts, told, folder, workers or cores())
            read = {"document": document, "column": column, "encoding": encoding}
            about = report(counts, sources, read, told)
            write_json(folder / REPORT, about)
    except KeyboardInterrupt:
        console.note(f"nothing was written to {output_dir}")
        raise
    return about


def settings(
    only: Sequence[str],
    skip: Sequence[str],
    also: Sequence[str],
    chars: str | None,
    words: str | None,
    script: Sequence[str],
    near: float,
    form: Form,
    stop_words: str | None,
) -> Settings:
    """What the steps are told. Raises UsageError for the first option that is wrong."""
    if form not in ("NFC", "NFKC"):
        raise UsageError(f"--form {form}: unknown", "write NFC or NFKC")
    if not 0.1 <= near <= 0.99:
        mend = "it must be from 0.1 to 0.99; --skip near keeps what is only alike"
        raise UsageError(f"--near {near}: out of range", mend)
    needed = {"chars": chars, "words": words, "script": script, "stopwords": stop_words}
    if script:
        of_scripts(tuple(script))
    return Settings(
        steps.chosen(only, skip, also, [name for name, given in needed.items() if given]),
        form,
        span("chars", chars),
        span("words", words),
        tuple(script),
        near=near,
        stop_words=read_stop_words(stop_words) if stop_words else frozenset(),
    )


def span(name: str, text: str | None) -> tuple[int | None, int | None]:
    """The least and the most that `20:500`, `20:` or `:500` stands for."""
    if text is None:
        return None, None
    matched = RANGE.fullmatch(text)
    if not matched or text == ":":
        raise UsageError(f"--{name} {text}: no range", f"write LEAST:MOST, such as --{name} 20: or --{name} 20:5000")
    least, most = (int(side) if side else None for side in matched.groups())
    if least is not None and most is not None and least > most:
        raise UsageError(f"--{name} {text}: {least} is above {most}", "write the smaller number first")
    return least, most


def found(corpus: Source) -> list[str]:
    """The names of the sources, each of which is there: a missing last one is said before the first is read."""
    names = [str(one) for one in several(corpus)]
    for name in names:
        path = locate(name)
        if path.exists() or not may_be_hub_id(name):
            parts(name, path)
    return names


def in_these_words(texts: Iterator[Document]) -> Iterator[Document]:
    """`texts`, with mistakes that name the flag where reading names the key of a recipe."""
    try:
        yield from texts
    except (DataError, RecipeError) as fault:
        mend = fault.hint.replace("data.encoding=", "--encoding ")
        raise type(fault)(fault.message, mend, fault.places, fault.count) from fault


def written(texts: Iterable[Document], told: Settings, folder: Path, workers: int) -> Counts:
    """What happened to all documents; those that stay are in `folder`, in their order."""
    running = [name for name in steps.NAMES if name in told.steps]
    counts = Counts({name: Step() for name in running})
    seen = Seen(told.near, "duplicates" in running, "near" in running)
    out = Texts(folder)
    try:
        with console.progress("cleaning") as advance:
            for piece, results in in_order(partial(worked, told=told), pieces(texts), workers):
                for document, done in zip(piece, results, strict=True):
                    done = compared(document, done, seen)
                    counts.add(document, done)
                    if done.dropped is None:
                        out.write(done.text, place(document))
                advance(len(piece), [f"{counts.kept:,} kept"])
    finally:
        out.close()
    refuse_nothing(counts)
    return counts


def pieces(texts: Iterable[Document]) -> Iterator[list[Document]]:
    """The documents in lists that are worth sending to another process."""
    held: list[Document] = []
    size = 0
    for one in texts:
        held.append(one)
        size += len(one.text) + 100  # short ones cost too
        if size >= PIECE:
            yield held
            held, size = [], 0
    if held:
        yield held


def worked(piece: list[Document], told: Settings) -> list[Cleaned]:
    """What a worker does: what became of each document."""
    return [cleaned(one.text, told) for one in piece]


def compared(document: Document, done: Cleaned, seen: Seen) -> Cleaned:
    """`done`, or dropped where an equal or a similar document came before it."""
    if done.dropped is not None:
        return done
    step, why = seen.twin(done.digest, done.signature, document)
    return done if step is None else done._replace(dropped=step, why=why)
