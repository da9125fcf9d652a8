"""Trains a tokenizer on a corpus streamed from disk, then reloads the saved folder and compares it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from llmkit import console
from llmkit.data.corpus.documents import DocumentUnit, TextColumns
from llmkit.data.corpus.holdout import Holdout, hold_out_texts
from llmkit.data.readers.read import RowSource
from llmkit.data.row_errors import join_names, pluralize
from llmkit.errors import DataError, DiskError, InternalError, OutputError, UsageError, suggest_spelling
from llmkit.models.sources.model_ref import ModelRef
from llmkit.models.tokenizer_training.fertility import (
    Fertility,
    batch_texts,
    format_corpus,
    measure_fertility,
    read_corpus_texts,
    tokenize_texts,
)
from llmkit.models.tokenizer_training.pipelines import SPECIAL_TOKENS, TOKENIZER_BUILDERS
from llmkit.models.tokenizer_training.trainers import DEFAULT_MIN_FREQUENCY, train_vocabulary
from llmkit.runs import folder

MAX_VOCAB_SIZE = 2**20  # the trainers allocate memory for the whole vocabulary before they read a word
MAX_HOLDOUT_SHARE = 0.5  # fraction of the documents
MIN_HOLDOUT_TEXTS = 30  # below this the report is unreliable


@dataclass(frozen=True)
class TrainedTokenizer:
    """A saved tokenizer: its folder, its training settings, and its fertility on the held-out texts."""

    folder: Path
    training: dict[str, Any]
    holdout_fertility: Fertility

    def as_dict(self) -> dict[str, Any]:
        """Return the record that --json prints and report.json stores."""
        return self.holdout_fertility.as_dict() | {"training": self.training}


def train_tokenizer(
    corpus: RowSource,
    *,
    output_dir: str | Path,
    kind: str = "wordpiece",
    vocab_size: int = 8000,
    lowercase: bool = False,
    max_length: int = 512,
    min_frequency: int | None = None,
    holdout: float = 0.05,
    document: DocumentUnit = "line",
    column: TextColumns = None,
    encoding: str = "utf-8",
) -> TrainedTokenizer:
    """Train a tokenizer on `corpus` and write it to `output_dir` as a plain Hugging Face folder with report.json.

    corpus, column: as in `llmkit.data.corpus.documents`; streamed several times. kind: wordpiece, bpe or unigram.
    min_frequency: how often a pair must occur to be merged, default 2; not for unigram. holdout: the fraction of
    documents (at most 10,000) held out of training and used for the report; 0 for no hold-out. max_length: texts are
    truncated to this many tokens. Raises UsageError for a value out of range, OutputError if the folder is not empty or
    cannot be created, DataError if the corpus has no text, or too little for `vocab_size`. Nothing is written then.
    """
    check_tokenizer_options(kind, vocab_size, max_length, min_frequency, holdout)
    if kind != "unigram":
        min_frequency = DEFAULT_MIN_FREQUENCY if min_frequency is None else min_frequency
    path = Path(output_dir).expanduser()
    check_tokenizer_folder(path)
    folder.remove_empty_folders(folder.create_missing_folders(path))

    def read(what: str, total: int | None = None) -> Iterator[str]:
        return iterate_with_progress(read_corpus_texts(corpus, document, column, encoding), what, total)

    held_out = hold_out_texts(lambda: read("reading the corpus"), holdout or 1.0)
    check_holdout_size(held_out, corpus, holdout)
    if not holdout:  # the corpus is too small for a hold-out
        held_out = Holdout(held_out.texts, 0, held_out.remaining + len(held_out.texts))
        console.print_message("no documents are held out: the report is on the training texts")

    def read_training_texts(what: str) -> Iterator[str]:
        total = held_out.remaining + len(held_out.texts)
        return (text for text in read(f"learning {what}", total) if not held_out.contains(text))

    tokenizer = train_vocabulary(kind, read_training_texts, vocab_size, lowercase, min_frequency, format_corpus(corpus))
    training = {"kind": kind, "lowercase": lowercase, "min_frequency": min_frequency, "document": document,
                "documents": held_out.remaining, "tokenizers": version("tokenizers")}  # fmt: skip
    with write_folder_atomically(path) as temporary:
        write_tokenizer_files(tokenizer, temporary, max_length)
        loaded = verify_saved_tokenizer(tokenizer, temporary, held_out.texts)
        result = TrainedTokenizer(path, training, measure_fertility(loaded, held_out.texts, max_length))
        text = json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n"
        (temporary / "report.json").write_text(text, encoding="utf-8")
    return result


def check_tokenizer_options(
    kind: str, vocab_size: int, max_length: int, min_frequency: int | None, holdout: float
) -> None:
    """Raise UsageError for an option value that is invalid for every corpus."""
    if kind not in TOKENIZER_BUILDERS:
        raise UsageError(f"--kind {kind}: unknown", suggest_spelling(kind, list(TOKENIZER_BUILDERS)))
    if not 0 < vocab_size <= MAX_VOCAB_SIZE:
        raise UsageError(f"--vocab-size {vocab_size}: out of range", "write a few thousand, such as 8000")
    if max_length < 3:
        raise UsageError(f"--max-length {max_length}: no room for text between [CLS] and [SEP]", "write 3 or more")
    if min_frequency is not None and kind == "unigram":
        what = "--min-frequency with --kind unigram: it selects tokens by likelihood, not by frequency"
        raise UsageError(what, "leave it out")
    if min_frequency is not None and min_frequency < 1:
        raise UsageError(f"--min-frequency {min_frequency}: out of range", "write 1 or more")
    if not 0 <= holdout <= MAX_HOLDOUT_SHARE:
        raise UsageError(f"--holdout {holdout:g}: out of range", f"write a share from 0 to {MAX_HOLDOUT_SHARE}")


def check_tokenizer_folder(path: Path) -> None:
    """Raise OutputError unless `path` does not exist or is an empty folder."""
    try:
        entries = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: a file of this name exists", "name another -o FOLDER")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name another -o FOLDER") from None
    if path.resolve() == Path.cwd():  # it would replace the shell's current folder
        raise OutputError(f"{path}: this is the current folder", "name a new one with -o FOLDER")
    if entries:
        raise OutputError(f"{path}: not an empty folder: it holds {join_names(entries, 3)}", "name another -o FOLDER")


def iterate_with_progress(texts: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """Yield the texts and advance a progress bar."""
    with console.show_progress(what, total) as advance:
        for text in texts:
            yield text
            advance()


def check_holdout_size(held_out: Holdout, corpus: RowSource, holdout: float) -> None:
    """Raise DataError if no training text is left; print a message if the held-out texts are few."""
    name, total = format_corpus(corpus), held_out.remaining + len(held_out.texts)
    fix = "use more text, or split it differently with --document"
    if total < (2 if holdout else 1):
        raise DataError(f"{name}: {'a single document' if total else 'no text in it'}", fix)
    if holdout and not held_out.remaining:
        raise DataError(f"{name}: {pluralize(total, 'document')}, all identical", fix)
    if holdout and len(held_out.texts) < MIN_HOLDOUT_TEXTS:
        few = pluralize(len(held_out.texts), "document")
        console.print_message(f"only {few} held out: the report is unreliable; use more text or a larger --holdout")


def write_tokenizer_files(tokenizer: Tokenizer, path: Path, max_length: int) -> None:
    """Write the files that AutoTokenizer loads."""
    from transformers import PreTrainedTokenizerFast  # slow import: corpus errors come first

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL_TOKENS).save_pretrained(
        path
    )


def verify_saved_tokenizer(tokenizer: Tokenizer, path: Path, texts: list[str]) -> Any:
    """Load the saved files with AutoTokenizer. Raises InternalError if it tokenizes a text differently."""
    from llmkit.models.load import load_tokenizer

    loaded = load_tokenizer(ModelRef(path.name, str(path), path), required_tokens=("pad", "mask"))
    for batch in batch_texts(texts):
        ids = [encoding.ids for encoding in tokenizer.encode_batch(batch)]
        if tokenize_texts(loaded, batch, add_special_tokens=True) != ids:
            what = "the saved tokenizer does not produce the same tokens as the trained one"
            raise InternalError(what, "report it with the corpus")
    return loaded


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary folder that is renamed to `path` at the end, or deleted after an exception."""
    created, target = folder.create_missing_folders(path), path.resolve()
    temporary = target.with_name(f".{target.name}.tmp-{os.getpid()}")
    try:
        temporary.mkdir()
        yield temporary
        for file in temporary.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.rename(target)  # the system allows this only over an empty folder
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise DiskError(f"{path}: no space left", "free some, or name an -o FOLDER on another disk") from error
        raise OutputError(f"{path}: {error.strerror}", "name another -o FOLDER") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if path.is_dir() and not any(path.iterdir()):
            folder.remove_empty_folders(created)
