"""A corpus that is streamed: read anew in each epoch, with a few documents of it in memory to learn about it from.

Which documents are held back follows from their text alone, so that no list of them is needed and equal ones stay
together.
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

SAMPLE_DOCUMENTS = 4096  # documents that stand for the corpus where all of it is not looked at
MAX_HOLDOUT_DOCUMENTS = 1000  # documents that are scored, of those held back
MAX_SEARCHED_DOCUMENTS = 1_000_000  # documents among which they are looked for

DocumentStream = Callable[[], Iterator[Document]]


def open_document_stream(
    section: DataSection, options: ReadOptions, column: str | None
) -> tuple[Rows, dict[str, Rows], DocumentStream]:
    """A sample of the training documents, the rows held back, and what reads all training documents from the start.

    Validation and test are read into memory where they are named. Without them `split.validation` of the documents is
    held back, by a hash of the text: the first of those are scored, none is trained on. Raises DataError where nothing
    is left to train on.
    """
    named = {"validation": section.validation, "test": section.test}

    def read(source: Any, role: str) -> Iterator[Document]:
        return read_documents(source, unit=section.document_unit, column=column, options=options, split_role=role)

    share = 0.0 if any(named.values()) else section.split.validation
    bound, seed = int(share * 2**64), section.split.seed

    def training() -> Iterator[Document]:
        return (one for one in read(section.train, "train") if hash_with_seed(one.text, seed) >= bound)

    word, name = column or "text", str(section.train)
    held = {
        role: collect_documents(read(source, role), word, str(source))
        for role, source in named.items()
        if source is not None
    }
    if share:
        among = islice(read(section.train, "train"), MAX_SEARCHED_DOCUMENTS)
        chosen = islice((one for one in among if hash_with_seed(one.text, seed) < bound), MAX_HOLDOUT_DOCUMENTS)
        held["validation"] = collect_documents(chosen, word, f"{name}: {share:.0%} of its documents")
    return collect_documents(islice(training(), SAMPLE_DOCUMENTS), word, name), held, training


def hash_with_seed(text: str, seed: int) -> int:
    """Where the text's hash puts it among 2**64 places."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8, salt=seed.to_bytes(16, "big")).digest())


def check_streaming(section: DataSection, is_corpus: bool, max_steps: int, workers: int) -> None:
    """Raise RecipeError where rows cannot be streamed."""
    if not is_corpus:
        raise RecipeError("data.streaming: only a corpus is streamed", "leave it out; rows of a table fit into memory")
    if max_steps < 1:
        raise RecipeError("data.streaming: a stream has no known length", "say how many steps with train.max_steps=N")
    if workers:
        raise RecipeError("train.dataloader_num_workers: each would read the whole stream", "leave it out")
    if isinstance(section.train, Mapping):
        raise DataError("a corpus is named by a mapping label: file", "write a list of files")


def list_corpus_files(source: Any) -> list[str]:
    """The names of all files of a source, without reading them; a Hub set has none."""
    found = []
    for one in list_corpus_sources(source):
        path = resolve_path(str(one))
        if path.exists():
            found += [part.name for part in expand_path(str(one), path)]
    return found
