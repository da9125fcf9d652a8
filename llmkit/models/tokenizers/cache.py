"""Tokenizes a corpus once and caches the tokens as memory-mapped arrays, keyed by texts, tokenizer and options."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from llmkit import console
from llmkit.data.corpus.blocks import SpecialTokens, TokenizedDocuments
from llmkit.models.tokenizers.word_boundaries import WordBoundaries

TOKENIZE_BATCH_SIZE = 4096  # documents tokenized in one call, on all cores
TOKEN_CACHE_VERSION = 1  # of the format of the arrays
TOKEN_ARRAY_NAMES = ("tokens", "ends", "joined")


def detect_frame(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """Return the special tokens that the tokenizer adds before and after a text."""
    special = set(tokenizer.all_special_ids)
    others = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
    # A tokenizer without an unknown token drops characters that are not in its vocabulary.
    text = next(text for text in chain(["a"], others) if tokenizer.encode(text, add_special_tokens=False))
    tokens, framed = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
    offset = next(i for i in range(len(framed)) if framed[i : i + len(tokens)] == tokens)
    return SpecialTokens(tuple(framed[:offset]), tuple(framed[offset + len(tokens) :]))


def tokenize_corpus(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, word_boundaries: WordBoundaries | None, key: str
) -> TokenizedDocuments:
    """Tokenize the texts, or load their tokens from the cache. `key` identifies the texts.

    The spelling of a special token in a text is encoded as text. Memory: one batch of documents; the arrays are written
    to disk batch by batch. If the cache is not writable, they are made in a temporary folder and kept in memory.
    """
    try:
        folder = get_cache_root() / compute_cache_key(key, tokenizer, word_boundaries)
        if (tokenized := open_token_arrays(folder, word_boundaries is not None)) is not None:
            console.print_message(f"tokens: {len(tokenized.tokens):,} from the cache, {folder}")
            return tokenized
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=".", dir=folder.parent))
    except (OSError, RuntimeError):  # training must not fail without a writable home folder
        scratch = Path(mkdtemp())
        folder = scratch / "tokens"
    try:
        new_folder = scratch / "made"
        new_folder.mkdir()
        write_token_arrays(texts, tokenizer, word_boundaries, new_folder)
        tokenized = open_token_arrays(new_folder, word_boundaries is not None)
        assert tokenized is not None
        move_into_cache(new_folder, folder, word_boundaries is not None)
        if folder.parent == scratch:
            tokenized = TokenizedDocuments(*(None if array is None else np.array(array) for array in tokenized))  # type: ignore[arg-type]
        return tokenized
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_into_cache(new_folder: Path, folder: Path, has_continuations: bool) -> None:
    """Rename the new arrays to `folder`. A damaged folder there is replaced, one from a faster process is kept."""
    with suppress(OSError):  # only a cache, and other processes write to it too
        if folder.exists() and open_token_arrays(folder, has_continuations) is None:
            folder.rename(new_folder.with_name("broken"))
        new_folder.rename(folder)


def get_cache_root() -> Path:
    """Return the cache folder, which may be deleted at any time. Raises RuntimeError if the user has no home."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "llmkit" / "tokens"


def compute_cache_key(key: str, tokenizer: PreTrainedTokenizerBase, word_boundaries: WordBoundaries | None) -> str:
    """Return a folder name: a hash of everything that determines the tokens."""
    segmenter = word_boundaries.name if word_boundaries else ""
    key_parts = [str(TOKEN_CACHE_VERSION), key, tokenizer.backend_tokenizer.to_str(), segmenter]
    return hashlib.sha256("\0".join(key_parts).encode()).hexdigest()[:32]


def open_token_arrays(folder: Path, has_continuations: bool) -> TokenizedDocuments | None:
    """Open the arrays of a folder, memory-mapped; None if they are missing or damaged."""
    names = TOKEN_ARRAY_NAMES if has_continuations else TOKEN_ARRAY_NAMES[:2]
    try:
        arrays = TokenizedDocuments(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
    except (OSError, ValueError, EOFError):
        return None
    count = int(arrays.ends[-1]) if len(arrays.ends) else 0
    per_token = [array for array in (arrays.tokens, arrays.continues_word) if array is not None]
    return arrays if all(len(array) == count for array in per_token) else None


def write_token_arrays(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, word_boundaries: WordBoundaries | None, folder: Path
) -> None:
    """Tokenize the texts into raw files, batch by batch, then add the header that makes each an .npy file."""
    width = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    types: dict[str, Any] = {"tokens": width, "ends": np.int64} | ({"joined": np.bool_} if word_boundaries else {})
    files = {name: (folder / f"{name}.raw").open("wb") for name in types}
    counts, offset = dict.fromkeys(types, 0), 0
    try:
        for ids, sizes, continues_word in tokenize_batches(texts, tokenizer, word_boundaries, width):
            ends = offset + np.cumsum(sizes)
            offset = int(ends[-1])
            for name, array in (("tokens", ids), ("ends", ends), ("joined", continues_word)):
                if array is not None:
                    files[name].write(array.tobytes())
                    counts[name] += len(array)
    finally:
        for file in files.values():
            file.close()
    for name, dtype in types.items():
        with (folder / f"{name}.npy").open("wb") as array_file, (folder / f"{name}.raw").open("rb") as raw:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
            np.lib.format.write_array_header_2_0(array_file, header | {"shape": (counts[name],)})
            shutil.copyfileobj(raw, array_file)
        (folder / f"{name}.raw").unlink()


def tokenize_batches(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, word_boundaries: WordBoundaries | None, width: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Yield token ids, document lengths and word continuation flags (or None), a few thousand documents at a time."""
    backend, remaining = tokenizer.backend_tokenizer, iter(texts)
    previous, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        while documents := list(islice(remaining, TOKENIZE_BATCH_SIZE)):
            lists = [encoding.ids for encoding in backend.encode_batch_fast(documents, add_special_tokens=False)]
            sizes = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
            ids = np.fromiter(chain.from_iterable(lists), dtype=width, count=int(sizes.sum()))
            yield ids, sizes, None if word_boundaries is None else word_boundaries.mark_continuations(ids, sizes)
    finally:
        backend.encode_special_tokens = previous
