"""Streams a corpus: reads it from the start in each epoch and keeps only a sample of its documents in memory.

Whether a document is held out depends only on a hash of its text, so no list of held-out documents is needed and equal
documents stay together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import Any

from llmkit.data.corpus.documents import Document, collect_documents, expand_path, list_corpus_sources, read_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.rows import Rows
from llmkit.errors import DataError, RecipeError
from llmkit.schema import DataSection

SAMPLE_DOCUMENTS = 4096  # documents that represent the corpus where reading all of it would take too long
MAX_HOLDOUT_DOCUMENTS = 1000  # held-out documents that are scored
MAX_SEARCHED_DOCUMENTS = 1_000_000  # documents from the start of the stream that are searched for held-out ones

DocumentStream = Callable[[], Iterator[Document]]


def open_document_stream(
    section: DataSection, options: ReadOptions, column: str | None
) -> tuple[Rows, dict[str, Rows], DocumentStream]:
    """Return a sample of the training documents, the other splits, and a function that streams the training documents.

    Validation and test are read into memory if the recipe names them. If it names neither, `split.validation` of the
    documents are held out by a hash of their text: the first of them become the validation split, none is trained on.
    Raises DataError if no training document is left.
    """
    sources = {"validation": section.validation, "test": section.test}

    def read(source: Any, role: str) -> Iterator[Document]:
        return read_documents(source, unit=section.document_unit, column=column, options=options, split_role=role)

    share = 0.0 if any(sources.values()) else section.split.validation
    threshold, seed = int(share * 2**64), section.split.seed

    def stream_training_documents() -> Iterator[Document]:
        documents = read(section.train, "train")
        return (document for document in documents if hash_with_seed(document.text, seed) >= threshold)

    text_column, name = column or "text", str(section.train)
    splits = {
        role: collect_documents(read(source, role), text_column, str(source))
        for role, source in sources.items()
        if source is not None
    }
    if share:
        searched = islice(read(section.train, "train"), MAX_SEARCHED_DOCUMENTS)
        held_out = (document for document in searched if hash_with_seed(document.text, seed) < threshold)
        scored = islice(held_out, MAX_HOLDOUT_DOCUMENTS)
        splits["validation"] = collect_documents(scored, text_column, f"{name}: {share:.0%} of its documents")
    sample = collect_documents(islice(stream_training_documents(), SAMPLE_DOCUMENTS), text_column, name)
    return sample, splits, stream_training_documents


def hash_with_seed(text: str, seed: int) -> int:
    """Hash the text to an integer below 2**64."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, salt=seed.to_bytes(16, "big")).digest())


def check_streaming(section: DataSection, is_corpus: bool, max_steps: int, workers: int) -> None:
    """Raise RecipeError or DataError if the recipe's data cannot be streamed."""
    if not is_corpus:
        raise RecipeError("data.streaming: only a corpus is streamed", "leave it out; rows of a table fit into memory")
    if max_steps < 1:
        fix = "set the number of steps with train.max_steps=N"
        raise RecipeError("data.streaming: a stream has no known length", fix)
    if workers:
        what = "train.dataloader_num_workers: each worker would read the whole stream"
        raise RecipeError(what, "leave it out")
    if isinstance(section.train, Mapping):
        raise DataError("a corpus cannot be a mapping of label to file", "write a list of files")


def list_corpus_files(source: Any) -> list[str]:
    """List the names of all files of a source without reading them; Hub datasets are left out."""
    names = []
    for one in list_corpus_sources(source):
        path = resolve_path(str(one))
        if path.exists():
            names += [file.name for file in expand_path(str(one), path)]
    return names
