"""Measures a tokenizer on texts: tokens per word (fertility), unknown tokens, truncated texts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from llmkit.data.corpus.documents import DocumentUnit, TextColumns, read_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.read import RowSource
from llmkit.data.row_errors import join_names
from llmkit.errors import DataError, UsageError, suggest_spelling
from llmkit.models.sources.model_ref import ModelRef, resolve_model

MAX_BATCH_TEXTS = 1000  # texts tokenized in one call
MAX_BATCH_CHARACTERS = 2**22  # of one call
# Letters and punctuation of scripts without spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese and
# Japanese.
UNSPACED_RUN = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+"
)
NO_LENGTH_LIMIT = 10**6  # transformers uses 10**30 for a tokenizer without a limit


@dataclass(frozen=True)
class Fertility:
    """Statistics of a tokenizer on a set of texts. Lengths include special tokens, `tokens` does not."""

    vocabulary: int
    texts: int
    words: int  # separated by white space
    characters: int  # without white space
    tokens: int
    per: Literal["word", "character"]  # character: most characters belong to scripts without spaces
    fertility: float  # tokens per word, or per character
    unknown_rate: float  # fraction of the tokens
    max_length: int | None
    cut_rate: float | None  # fraction of the texts longer than max_length
    tokens_a_text: dict[str, float]  # quartiles and maximum of the lengths

    def as_dict(self) -> dict[str, Any]:
        """Return the record that --json prints."""
        return {"schema": 1, **asdict(self)}


def measure_fertility(tokenizer: Any, texts: Iterable[str], max_length: int | None = None) -> Fertility:
    """Measure a fast transformers tokenizer (without truncation) on a stream of texts, at least one.

    max_length: the length in tokens to which texts are truncated, None for no limit.
    """
    lengths: list[int] = []
    words = characters = unspaced = unknown = 0
    unknown_id = tokenizer.unk_token_id
    for batch in batch_texts(texts):
        for text, encoded in zip(batch, tokenize_texts(tokenizer, batch), strict=True):
            parts = text.split()
            words, characters = words + len(parts), characters + sum(map(len, parts))
            unspaced += sum(map(len, UNSPACED_RUN.findall(text)))
            lengths.append(len(encoded))
            unknown += encoded.count(unknown_id)
    tokens = sum(lengths)
    full_lengths = np.array(lengths) + tokenizer.num_special_tokens_to_add()
    q1, median, q3 = np.quantile(full_lengths, (0.25, 0.5, 0.75)).tolist()
    without_spaces = unspaced * 2 > characters
    return Fertility(
        vocabulary=len(tokenizer),
        texts=len(lengths),
        words=words,
        characters=characters,
        tokens=tokens,
        per="character" if without_spaces else "word",
        fertility=tokens / (characters if without_spaces else words),
        unknown_rate=unknown / tokens if tokens else 0.0,
        max_length=max_length,
        cut_rate=None if max_length is None else float((full_lengths > max_length).mean()),
        tokens_a_text={"q1": q1, "median": median, "q3": q3, "longest": int(full_lengths.max())},
    )


def tokenize_texts(tokenizer: Any, texts: list[str], add_special_tokens: bool = False) -> list[list[int]]:
    """Return the token ids of each text, without truncation."""
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    return encoded


def batch_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in lists of at most MAX_BATCH_TEXTS texts, and about MAX_BATCH_CHARACTERS characters."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == MAX_BATCH_TEXTS or size > MAX_BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def tokenizer_report(
    tokenizer: str,
    corpus: RowSource,
    *,
    max_length: int | None = None,
    document: DocumentUnit = "line",
    column: TextColumns = None,
    encoding: str = "utf-8",
) -> Fertility:
    """Measure any tokenizer on a corpus: a folder of `llmkit tokenizer train`, a run, a model, or a Hub id.

    max_length: default the tokenizer's own. Raises DataError and MissingInputError if the corpus cannot be read,
    ModelError if the folder has no tokenizer, UsageError for a max_length below 1.
    """
    if max_length is not None and max_length < 1:
        raise UsageError(f"--max-length {max_length}: out of range", "write 1 or more")
    name, texts = resolve_tokenizer(tokenizer), read_corpus_texts(corpus, document, column, encoding)
    first = next(texts, None)
    if first is None:
        raise DataError(f"{format_corpus(corpus)}: no text in it", "write some")
    from llmkit.models.load import load_tokenizer  # slow import: corpus errors come first

    loaded = load_tokenizer(name, required_tokens=())
    default = loaded.model_max_length
    limit = max_length if max_length is not None else default if 0 < default < NO_LENGTH_LIMIT else None
    return measure_fertility(loaded, chain([first], texts), limit)


def read_corpus_texts(corpus: RowSource, document: DocumentUnit, column: TextColumns, encoding: str) -> Iterator[str]:
    """Yield the non-empty texts of the corpus. Raises UsageError for an unknown document unit."""
    if document not in (units := get_args(DocumentUnit)):
        raise UsageError(f"--document {document}: unknown", suggest_spelling(document, units))
    options = ReadOptions(encoding, on_empty="skip")
    return (item.text for item in read_documents(corpus, unit=document, column=column, options=options))


def resolve_tokenizer(name: str) -> ModelRef:
    """Locate a tokenizer; a folder with a tokenizer.json needs no config.json."""
    folder = Path(name).expanduser()
    if (folder / "tokenizer.json").is_file():
        return ModelRef(name, str(folder), folder)
    return resolve_model(name)


def format_corpus(corpus: RowSource) -> str:
    """Return the name of a corpus for messages."""
    return str(corpus) if isinstance(corpus, (str, Path)) else join_names([format_corpus(one) for one in corpus], 3)
