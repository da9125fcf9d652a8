"""How a tokenizer cuts texts up: tokens a word, unknown ones, and how many texts are too long."""

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

MAX_BATCH_TEXTS = 1000  # texts that are cut up at once
MAX_BATCH_CHARACTERS = 2**22  # characters of them
# Letters and punctuation of the scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, Chinese
# and Japanese.
UNSPACED_RUN = re.compile(
    "[\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3001-\u312f\u31a0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]+"
)
NO_LENGTH_LIMIT = 10**6  # transformers writes 10**30 where a tokenizer names no length


@dataclass(frozen=True)
class Fertility:
    """What a tokenizer makes of some texts. Lengths count the special tokens around a text, `tokens` does not."""

    vocabulary: int
    texts: int
    words: int  # between white space
    characters: int  # other than white space
    tokens: int
    per: Literal["word", "character"]  # character: over half of the characters are of scripts without spaces
    fertility: float  # tokens a word, or a character
    unknown_rate: float  # share of the tokens
    max_length: int | None
    cut_rate: float | None  # share of the texts that are longer than max_length
    tokens_a_text: dict[str, float]  # quartiles, and the longest

    def as_dict(self) -> dict[str, Any]:
        """The record that --json prints."""
        return {"schema": 1, **asdict(self)}


def measure_fertility(tokenizer: Any, texts: Iterable[str], max_length: int | None = None) -> Fertility:
    """What `tokenizer` (of transformers, fast, without truncation) makes of `texts`, which are read as a stream.

    max_length: the tokens at which a text is cut, None for no limit. There must be one text at least.
    """
    lengths: list[int] = []
    words = characters = unspaced = unknown = 0
    unknown_id = tokenizer.unk_token_id
    for some in batch_texts(texts):
        for text, encoded in zip(some, tokenize_texts(tokenizer, some), strict=True):
            parts = text.split()
            words, characters = words + len(parts), characters + sum(map(len, parts))
            unspaced += sum(map(len, UNSPACED_RUN.findall(text)))
            lengths.append(len(encoded))
            unknown += encoded.count(unknown_id)
    around, tokens = tokenizer.num_special_tokens_to_add(), sum(lengths)
    whole = np.array(lengths) + around
    q1, median, q3 = np.quantile(whole, (0.25, 0.5, 0.75)).tolist()
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
        cut_rate=None if max_length is None else float((whole > max_length).mean()),
        tokens_a_text={"q1": q1, "median": median, "q3": q3, "longest": int(whole.max())},
    )


def tokenize_texts(tokenizer: Any, texts: list[str], add_special_tokens: bool = False) -> list[list[int]]:
    """The ids of each text, however long it is."""
    encoded: list[list[int]] = tokenizer(texts, add_special_tokens=add_special_tokens, verbose=False)["input_ids"]
    return encoded


def batch_texts(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in lists of at most BATCH, shorter ones where the texts are long."""
    some: list[str] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if len(some) == MAX_BATCH_TEXTS or size > MAX_BATCH_CHARACTERS:
            yield some
            some, size = [], 0
    if some:
        yield some


def tokenizer_report(
    tokenizer: str,
    corpus: RowSource,
    *,
    max_length: int | None = None,
    document: DocumentUnit = "line",
    column: TextColumns = None,
    encoding: str = "utf-8",
) -> Fertility:
    """What any tokenizer makes of a corpus: a folder of `llmkit tokenizer train`, a run, a model, or a Hub id.

    max_length: default the tokenizer's own. Raises DataError and MissingInputError as `documents` does, ModelError
    where the folder holds no tokenizer, UsageError for a max_length below 1.
    """
    if max_length is not None and max_length < 1:
        raise UsageError(f"--max-length {max_length}: out of range", "write 1 or more")
    name, read = resolve_tokenizer(tokenizer), read_corpus_texts(corpus, document, column, encoding)
    first = next(read, None)
    if first is None:
        raise DataError(f"{format_corpus(corpus)}: no text in it", "write some")
    from llmkit.models.load import load_tokenizer  # takes seconds: what is wrong with the corpus is said first

    loaded = load_tokenizer(name, required_tokens=())
    own = loaded.model_max_length
    limit = max_length if max_length is not None else own if 0 < own < NO_LENGTH_LIMIT else None
    return measure_fertility(loaded, chain([first], read), limit)


def read_corpus_texts(corpus: RowSource, document: DocumentUnit, column: TextColumns, encoding: str) -> Iterator[str]:
    """The texts of the corpus that hold anything. Raises UsageError for an unknown kind of document."""
    if document not in (units := get_args(DocumentUnit)):
        raise UsageError(f"--document {document}: unknown", suggest_spelling(document, units))
    options = ReadOptions(encoding, on_empty="skip")
    return (one.text for one in read_documents(corpus, unit=document, column=column, options=options))


def resolve_tokenizer(given: str) -> ModelRef:
    """Where a tokenizer is: a folder of its own needs no config.json beside it."""
    folder = Path(given).expanduser()
    if (folder / "tokenizer.json").is_file():
        return ModelRef(given, str(folder), folder)
    return resolve_model(given)


def format_corpus(corpus: RowSource) -> str:
    """A corpus as messages call it."""
    return str(corpus) if isinstance(corpus, (str, Path)) else join_names([format_corpus(one) for one in corpus], 3)
