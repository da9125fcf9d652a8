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
from llmkit.data.corpus.documents import Columns, Unit
from llmkit.data.corpus.holdout import Held, hold_back
from llmkit.data.readers.read import Source
from llmkit.data.row_errors import counted, listed
from llmkit.errors import DataError, DiskError, InternalError, OutputError, UsageError, did_you_mean
from llmkit.models.sources.model_ref import ModelName
from llmkit.models.tokenizer_training.fertility import Fertility, batches, called, cut_up, fertility, texts_of
from llmkit.models.tokenizer_training.pipelines import KINDS, SPECIAL
from llmkit.models.tokenizer_training.trainers import MIN_FREQUENCY, learned
from llmkit.runs import folder

MOST_PIECES = 2**20  # the trainers take room for all that are asked for before they read a word
MOST_HELD = 0.5  # share of the documents
FEW = 30  # texts held back that tell little


@dataclass(frozen=True)
class Trained:
    """A tokenizer that was written: its folder, what it was trained with, and what it makes of the texts held back."""

    folder: Path
    training: dict[str, Any]
    held_back: Fertility

    def as_dict(self) -> dict[str, Any]:
        """The record that --json prints and report.json holds."""
        return self.held_back.as_dict() | {"training": self.training}


def train_tokenizer(
    corpus: Source,
    *,
    output_dir: str | Path,
    kind: str = "wordpiece",
    vocab_size: int = 8000,
    lowercase: bool = False,
    max_length: int = 512,
    min_frequency: int | None = None,
    held_back: float = 0.05,
    document: Unit = "line",
    column: Columns = None,
    encoding: str = "utf-8",
) -> Trained:
    """The tokenizer trained on `corpus`, written to `output_dir` as a plain Hugging Face folder with report.json.

    corpus, column: as `llmkit.data.corpus.documents` reads them; streamed, several times.
    kind: wordpiece, bpe or unigram.
    min_frequency: how often a pair must occur to become a piece, default 2; unigram has none. held_back: the share of
    documents (10,000 at most) that are not trained on but reported on; 0: none. max_length: where texts are cut.
    Raises UsageError for a value out of range, OutputError where the folder holds files or cannot be made, DataError
    where the corpus is no text, or too little of it for `vocab_size`. Nothing is written then.
    """
    check(kind, vocab_size, max_length, min_frequency, held_back)
    if kind != "unigram":
        min_frequency = MIN_FREQUENCY if min_frequency is None else min_frequency
    path = Path(output_dir).expanduser()
    refuse_full(path)
    folder.remove(folder.make(path))

    def read(what: str, total: int | None = None) -> Iterator[str]:
        return watched(texts_of(corpus, document, column, encoding), what, total)

    apart = hold_back(lambda: read("reading the corpus"), held_back or 1.0)
    enough(apart, corpus, held_back)
    if not held_back:  # such a corpus is too small to spare any
        apart = Held(apart.texts, 0, apart.rest + len(apart.texts))
        console.note("nothing is held back: the report is on texts that it was trained on")

    def rest(what: str) -> Iterator[str]:
        total = apart.rest + len(apart.texts)
        return (text for text in read(f"learning {what}", total) if not apart.holds(text))

    tokenizer = learned(kind, rest, vocab_size, lowercase, min_frequency, called(corpus))
    training = {"kind": kind, "lowercase": lowercase, "min_frequency": min_frequency, "document": document,
                "documents": apart.rest, "tokenizers": version("tokenizers")}  # fmt: skip
    with written(path) as beside:
        save(tokenizer, beside, max_length)
        loaded = reloaded(tokenizer, beside, apart.texts)
        result = Trained(path, training, fertility(loaded, apart.texts, max_length))
        text = json.dumps(result.as_dict(), indent=2, ensure_ascii=False) + "\n"
        (beside / "report.json").write_text(text, encoding="utf-8")
    return result


def check(kind: str, vocab_size: int, max_length: int, min_frequency: int | None, held_back: float) -> None:
    """Raise UsageError for a value that no corpus makes right."""
    if kind not in KINDS:
        raise UsageError(f"--kind {kind}: unknown", did_you_mean(kind, list(KINDS)))
    if not 0 < vocab_size <= MOST_PIECES:
        raise UsageError(f"--vocab-size {vocab_size}: out of range", "write some thousands")
    if max_length < 3:
        raise UsageError(f"--max-length {max_length}: no room for text between [CLS] and [SEP]", "write 3 or more")
    if min_frequency is not None and kind == "unigram":
        raise UsageError("--min-frequency with --kind unigram: it weighs its pieces in another way", "leave it out")
    if min_frequency is not None and min_frequency < 1:
        raise UsageError(f"--min-frequency {min_frequency}: out of range", "write 1 or more")
    if not 0 <= held_back <= MOST_HELD:
        raise UsageError(f"--held-back {held_back:g}: out of range", f"write a share from 0 to {MOST_HELD}")


def refuse_full(path: Path) -> None:
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
        raise OutputError(f"{path}: not an empty folder: it holds {listed(holds, 3)}", "name another -o FOLDER")


def watched(texts: Iterable[str], what: str, total: int | None) -> Iterator[str]:
    """The texts, with a bar that counts them."""
    with console.progress(what, total) as advance:
        for text in texts:
            yield text
            advance()


def enough(apart: Held, corpus: Source, held_back: float) -> None:
    """Raise DataError where there is nothing to train on; say where there is little to report on."""
    name, all_of_it = called(corpus), apart.rest + len(apart.texts)
    mend = "name more text, or part it otherwise with --document"
    if all_of_it < (2 if held_back else 1):
        raise DataError(f"{name}: {'a single document' if all_of_it else 'no text in it'}", mend)
    if held_back and not apart.rest:
        raise DataError(f"{name}: {counted(all_of_it, 'document')}, all the same", mend)
    if held_back and len(apart.texts) < FEW:
        held = counted(len(apart.texts), "document")
        console.note(f"only {held} held back: the report says little; more text or a larger --held-back mends it")


def save(tokenizer: Tokenizer, path: Path, max_length: int) -> None:
    """Write the files that AutoTokenizer reads."""
    from transformers import PreTrainedTokenizerFast  # takes seconds: a corpus at fault is told first

    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=max_length, **SPECIAL).save_pretrained(path)


def reloaded(tokenizer: Tokenizer, path: Path, texts: list[str]) -> Any:
    """What AutoTokenizer makes of the files. Raises InternalError where it cuts up a text in another way."""
    from llmkit.models.load import load_tokenizer

    loaded = load_tokenizer(ModelName(path.name, str(path), path), needs=("pad", "mask"))
    for some in batches(texts):
        ids = [one.ids for one in tokenizer.encode_batch(some)]
        if cut_up(loaded, some, add_special_tokens=True) != ids:
            raise InternalError("the saved tokenizer cuts texts up in another way", "report it with the corpus")
    return loaded


@contextmanager
def written(path: Path) -> Iterator[Path]:
    """A folder beside `path` that takes its place at the end, or goes without a trace."""
    made, place = folder.make(path), path.resolve()
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
            folder.remove(made)
