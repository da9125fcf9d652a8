"""The tokens of a corpus: tokenized once, kept as memory-mapped arrays, found again by what they were made from."""

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

TOKENIZE_BATCH_SIZE = 4096  # documents that are tokenized together, on all cores
TOKEN_CACHE_VERSION = 1  # of what stands in the arrays
TOKEN_ARRAY_NAMES = ("tokens", "ends", "joined")


def detect_frame(tokenizer: PreTrainedTokenizerBase) -> SpecialTokens:
    """The special tokens that the tokenizer puts before and after a text."""
    special = set(tokenizer.all_special_ids)
    others = (tokenizer.decode([i]) for i in range(len(tokenizer)) if i not in special)
    # One without an unknown token makes nothing of a letter that it has not.
    text = next(text for text in chain(["a"], others) if tokenizer.encode(text, add_special_tokens=False))
    bare, whole = tokenizer.encode(text, add_special_tokens=False), tokenizer.encode(text)
    at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return SpecialTokens(tuple(whole[:at]), tuple(whole[at + len(bare) :]))


def tokenize_corpus(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, joiner: WordBoundaries | None, key: str
) -> TokenizedDocuments:
    """The tokens of the texts, from the cache where the same were tokenized before. `key` says what the texts are.

    The name of a special token in a text is text. Memory: one batch of documents; the arrays are written to disk as
    they grow. Where the cache cannot be written they are made in a temporary folder and held in memory.
    """
    try:
        folder = get_cache_root() / compute_cache_key(key, tokenizer, joiner)
        if (found := open_token_arrays(folder, joiner is not None)) is not None:
            console.print_message(f"tokens: {len(found.tokens):,} from the cache, {folder}")
            return found
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(mkdtemp(prefix=".", dir=folder.parent))
    except (OSError, RuntimeError):  # a read-only home, or none, is no reason not to train
        scratch = Path(mkdtemp())
        folder = scratch / "tokens"
    try:
        made = scratch / "made"
        made.mkdir()
        write_token_arrays(texts, tokenizer, joiner, made)
        found = open_token_arrays(made, joiner is not None)
        assert found is not None
        move_into_cache(made, folder, joiner is not None)
        if folder.parent == scratch:
            found = TokenizedDocuments(*(None if part is None else np.array(part) for part in found))  # type: ignore[arg-type]
        return found
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def move_into_cache(made: Path, folder: Path, joined: bool) -> None:
    """Let `folder` be what was made; what is broken there gives way, the same from a faster process stays."""
    with suppress(OSError):  # it is only a cache, and others write there too
        if folder.exists() and open_token_arrays(folder, joined) is None:
            folder.rename(made.with_name("broken"))
        made.rename(folder)


def get_cache_root() -> Path:
    """Where tokens are kept. It may be removed at any time. Raises RuntimeError for a user without a home."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "llmkit" / "tokens"


def compute_cache_key(key: str, tokenizer: PreTrainedTokenizerBase, joiner: WordBoundaries | None) -> str:
    """A folder's name that follows from the texts, the tokenizer and what else decides the tokens."""
    about = [str(TOKEN_CACHE_VERSION), key, tokenizer.backend_tokenizer.to_str(), joiner.name if joiner else ""]
    return hashlib.sha256("\0".join(about).encode()).hexdigest()[:32]


def open_token_arrays(folder: Path, joined: bool) -> TokenizedDocuments | None:
    """The arrays of a folder, memory-mapped; None where they are not there, or not whole."""
    names = TOKEN_ARRAY_NAMES if joined else TOKEN_ARRAY_NAMES[:2]
    try:
        arrays = TokenizedDocuments(*(np.load(folder / f"{name}.npy", mmap_mode="r") for name in names))
    except (OSError, ValueError, EOFError):
        return None
    count = int(arrays.ends[-1]) if len(arrays.ends) else 0
    return (
        arrays
        if all(len(part) == count for part in (arrays.tokens, arrays.continues_word) if part is not None)
        else None
    )


def write_token_arrays(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, joiner: WordBoundaries | None, folder: Path
) -> None:
    """Tokenize the texts into raw files, batch by batch, then give each the header that makes it an array."""
    width = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    types: dict[str, Any] = {"tokens": width, "ends": np.int64} | ({"joined": np.bool_} if joiner else {})
    files = {name: (folder / f"{name}.raw").open("wb") for name in types}
    counts, at = dict.fromkeys(types, 0), 0
    try:
        for ids, sizes, joined in tokenize_batches(texts, tokenizer, joiner, width):
            ends = at + np.cumsum(sizes)
            at = int(ends[-1])
            for name, part in (("tokens", ids), ("ends", ends), ("joined", joined)):
                if part is not None:
                    files[name].write(part.tobytes())
                    counts[name] += len(part)
    finally:
        for file in files.values():
            file.close()
    for name, dtype in types.items():
        with (folder / f"{name}.npy").open("wb") as whole, (folder / f"{name}.raw").open("rb") as raw:
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False}
            np.lib.format.write_array_header_2_0(whole, header | {"shape": (counts[name],)})
            shutil.copyfileobj(raw, whole)
        (folder / f"{name}.raw").unlink()


def tokenize_batches(
    texts: Iterable[str], tokenizer: PreTrainedTokenizerBase, joiner: WordBoundaries | None, width: Any
) -> Iterator[tuple[Any, Any, Any]]:
    """Ids, sizes of the documents, and which tokens continue a word, of a few thousand documents at a time."""
    backend, rest = tokenizer.backend_tokenizer, iter(texts)
    was, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        while part := list(islice(rest, TOKENIZE_BATCH_SIZE)):
            lists = [one.ids for one in backend.encode_batch_fast(part, add_special_tokens=False)]
            sizes = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
            ids = np.fromiter(chain.from_iterable(lists), dtype=width, count=int(sizes.sum()))
            yield ids, sizes, None if joiner is None else joiner.mark_continuations(ids, sizes)
    finally:
        backend.encode_special_tokens = was
