"""Train a tokenizer on a corpus that need not fit into memory, and prove the folder that it is saved in."""

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

MAX_VOCAB_SIZE = 2**20  # the trainers take room for all that are asked for before they read a word
MAX_HOLDOUT_SHARE = 0.5  # share of the documents
MIN_HOLDOUT_TEXTS = 30  # texts held back that tell little


@dataclass(frozen=True)
class TrainedTokenizer:
    """A tokenizer that was written: its folder, what it was trained with, and what it makes of the texts held back."""

    folder: Path
    training: dict[str, Any]
    holdout_fertility: Fertility

    def as_dict(self) -> dict[str, Any]:
        """The record that --json prints and report.json holds."""
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
    held_back: float = 0.05,
    document: DocumentUnit = "line",
    column: TextColumns = None,
    encoding: str = "utf-8",
) -> TrainedTokenizer:
    """The tokenizer trained on `corpus`, written to `output_dir` as a plain Hugging Face folder with report.json.

    corpus, column: as `llmkit.data.corpus.documents` reads them; streamed, several times.
    kind: wordpiece, bpe or unigram.
    min_frequency: how often a pair must occur to become a piece, default 2; unigram has none. held_back: the share of
    documents (10,000 at most) that are not trained on but reported on; 0: none. max_length: where texts are cut.
    Raises UsageError for a value out of range, OutputError where the folder holds files or cannot be made, DataError
    where the corpus is no text, or too little of it for `vocab_size`. Nothing is written then.
    """
    check_tokenizer_options(kind, vocab_size, max_length, min_frequency, held_back)
    if kind != "unigram":
        min_frequency = DEFAULT_MIN_FREQUENCY if min_frequency is None else min_frequency
    path = Path(output_dir).expanduser()
    check_tokenizer_folder(path)
    folder.remove_empty_folders(folder.create_missing_folders(path))

    def read(what: str, total: int | None = None) -> Iterator[str]:
        return iterate_with_progress(read_corpus_texts(corpus, document, column, encoding), what, total)

    apart = hold_out_texts(lambda: read("reading the corpus"), held_back or 1.0)
    check_holdout_size(apart, corpus, held_back)
    if not held_back:  # such a corpus is too small to spare any
        apart = Holdout(apart.texts, 0, apart.remaining + len(apart.texts))
        console.print_message("nothing is held back: the report is on texts that it was trained on")

    def rest(what: str) -> Iterator[str]:
        total = apart.remaining + len(apart.texts)
        return (text for text in read(f"learning {what}", total) if not apart.contains(text))

    tokenizer = train_vocabulary(kind, rest, vocab_size, lowercase, min_frequency, format_corpus(corpus))
    training = {"kind": kind, "lowercase": lowercase, "min_frequency": min_frequency, "document": document,
                "documents": apart.remaining, "tokenizers": version("tokenizers")}  # fmt: skip
    with write_folder_atomically(path) as beside:
        write_tokenizer_files(tokenizer, beside, max_length)
        loaded = verify_saved_tokenizer(tokenizer, beside, apart.texts)
        result = TrainedTokenizer(path, training, measure_fertility(loaded, apart.texts, max_length))
        text = json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n"
        (beside / "report.json").write_text(text, encoding="utf-8")
    return result


def check_tokenizer_options(
    kind: str, vocab_size: int, max_length: int, min_frequency: int | None, held_back: float
) -> None:
    """Raise UsageError for a value that no corpus makes right."""
    if kind not in TOKENIZER_BUILDERS:
        raise UsageError(f"--kind {kind}: unknown", suggest_spelling(kind, list(TOKENIZER_BUILDERS)))
    if not 0 < vocab_size <= MAX_VOCAB_SIZE:
        raise UsageError(f"--vocab-size {vocab_size}: out of range", "write some thousands")
    if max_length < 3:
        raise UsageError(f"--max-length {max_length}: no room for text between [CLS] and [SEP]", "write 3 or more")
    if min_frequency is not None and kind == "unigram":
        raise UsageError("--min-frequency with --kind unigram: it weighs its pieces in another way", "leave it out")
    if min_frequency is not None and min_frequency < 1:
        raise UsageError(f"--min-frequency {min_frequency}: out of range", "write 1 or more")
    if not 0 <= held_back <= MAX_HOLDOUT_SHARE:
        raise UsageError(f"--held-back {held_back:g}: out of range", f"write a share from 0 to {MAX_HOLDOUT_SHARE}")


def check_tokenizer_folder(path: Path) -> None:
    """Raise OutputError unless `path` is missing or an empty folder."""
    try:
        holds = sorted(one.name for one in path.iterdir()) if path.is_dir() else []
        if path.exists() and not path.is_dir():
            raise OutputError(f"{path}: a file stands there", "name another -o FOLDER")
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name another -o FOLDER") from None
    if path.resolve() == Path.cwd():  # it would be put in the place of the folder that the shell is in
        raise OutputError(f"{path}: the folder that you are in", "name one to make with -o FOLDER")
    if holds:
        raise OutputError(f"{path}: not an empty folder: it holds {join_names(holds, 3)}", "name another -o FOLDER")


def iterate_with_progress(texts: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """The texts, with a bar that counts them."""
    with console.show_progress(what, total) as advance:
        for text in texts:
            yield text
            advance()


def check_holdout_size(apart: Holdout, corpus: RowSource, held_back: float) -> None:
    """Raise DataError where there is nothing to train on; say where there is little to report on."""
    name, all_of_it = format_corpus(corpus), apart.remaining + len(apart.texts)
    mend = "name more text, or part it otherwise with --document"
    if all_of_it < (2 if held_back else 1):
        raise DataError(f"{name}: {'a single document' if all_of_it else 'no text in it'}", mend)
    if held_back and not apart.remaining:
        raise DataError(f"{name}: {pluralize(all_of_it, 'document')}, all the same", mend)
    if held_back and len(apart.texts) < MIN_HOLDOUT_TEXTS:
        held = pluralize(len(apart.texts), "document")
        console.print_message(
            f"only {held} held back: the report says little; more text or a larger --held-back mends it"
        )


def write_tokenizer_files(tokenizer: Tokenizer, path: Path, max_length: int) -> None:
    """Write the files that AutoTokenizer reads."""
    from transformers import PreTrainedTokenizerFast  # takes seconds: a corpus at fault is told first

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL_TOKENS).save_pretrained(
        path
    )


def verify_saved_tokenizer(tokenizer: Tokenizer, path: Path, texts: list[str]) -> Any:
    """What AutoTokenizer makes of the files. Raises InternalError where it cuts up a text in another way."""
    from llmkit.models.load import load_tokenizer

    loaded = load_tokenizer(ModelRef(path.name, str(path), path), required_tokens=("pad", "mask"))
    for some in batch_texts(texts):
        ids = [one.ids for one in tokenizer.encode_batch(some)]
        if tokenize_texts(loaded, some, add_special_tokens=True) != ids:
            raise InternalError("the saved tokenizer cuts texts up in another way", "report it with the corpus")
    return loaded


@contextmanager
def write_folder_atomically(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place at the end, or goes without a trace."""
    made, place = folder.create_missing_folders(path), path.resolve()
    beside = place.with_name(f".{place.name}.tmp-{os.getpid()}")
    try:
        beside.mkdir()
        yield beside
        for file in beside.iterdir():
            with file.open("rb") as stream:
                os.fsync(stream.fileno())
        beside.rename(place)  # over an empty folder only: the system sees to it
    except OSError as fault:
        if fault.errno == errno.ENOSPC:
            raise DiskError(f"{path}: no space left", "free some, or name an -o FOLDER on another disk") from fault
        raise OutputError(f"{path}: {fault.strerror}", "name another -o FOLDER") from fault
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        if path.is_dir() and not any(path.iterdir()):
            folder.remove_empty_folders(made)
