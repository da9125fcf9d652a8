"""Corpus tokens equal the tokenizer's, are cached once and reused, and are rebuilt if the cache is damaged."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from llmkit.data.corpus.blocks import SpecialTokens, TokenizedDocuments
from llmkit.models.tokenizers import cache
from llmkit.models.tokenizers.cache import detect_frame, tokenize_corpus
from llmkit.models.tokenizers.word_boundaries import WordBoundaries
from llmkit.testing import make_sentences

TEXTS = [*make_sentences(50), "[SEP] and [MASK] are text here", "\u200b"]


@pytest.fixture
def tokenizer(tiny_mlm: str) -> Any:
    return AutoTokenizer.from_pretrained(tiny_mlm)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "llmkit" / "tokens"


def are_equal(left: TokenizedDocuments, right: TokenizedDocuments) -> bool:
    return all((a is None and b is None) or np.array_equal(a, b) for a, b in zip(left, right, strict=True))


def make_character_tokenizer(kind: Any, **special: str) -> Any:
    """Return a tokenizer of a few Chinese characters without special tokens around a text."""
    tokenizer = Tokenizer(kind)
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def test_tokens_equal_the_tokenizers_and_special_names_are_text(tokenizer: Any) -> None:
    tokenized = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert tokenized.tokens.dtype == np.uint16
    assert tokenized.continues_word is None
    parts = np.split(tokenized.tokens, tokenized.ends[:-1])
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS[:50]]
    assert [tokens.tolist() for tokens in parts[:50]] == plain
    assert not set(parts[50].tolist()) & {tokenizer.sep_token_id, tokenizer.mask_token_id}
    assert parts[51].tolist() == []
    assert not tokenizer.backend_tokenizer.encode_special_tokens  # restored


def test_large_vocabulary_is_stored_in_32_bits(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    monkeypatch.setattr(type(tokenizer), "__len__", lambda _: 2**16 + 1)
    assert tokenize_corpus(TEXTS, tokenizer, None, "key").tokens.dtype == np.uint32


def test_batches_are_concatenated(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    boundaries = WordBoundaries(tokenizer)
    whole = tokenize_corpus(TEXTS, tokenizer, boundaries, "one")
    monkeypatch.setattr(cache, "TOKENIZE_BATCH_SIZE", 7)
    assert are_equal(tokenize_corpus(iter(TEXTS), tokenizer, boundaries, "two"), whole)


def test_cached_tokens_are_reused_with_a_message(
    tokenizer: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert capsys.readouterr().err == ""
    reloaded = tokenize_corpus(["never read"], tokenizer, None, "key")
    assert are_equal(first, reloaded)
    assert isinstance(reloaded.tokens, np.memmap)
    (folder,) = home.iterdir()  # no temporary folders are left
    assert capsys.readouterr().err == f"tokens: {len(first.tokens):,} from the cache, {folder}\n"


def test_key_depends_on_texts_tokenizer_and_segmenter(tokenizer: Any, tmp_path: Path) -> None:
    names = {cache.compute_cache_key("key", tokenizer, None), cache.compute_cache_key("other", tokenizer, None)}
    (tmp_path / "words").write_text("却说\n", encoding="utf-8")
    names |= {
        cache.compute_cache_key("key", tokenizer, WordBoundaries(tokenizer, words))
        for words in (None, str(tmp_path / "words"))
    }
    tokenizer.add_tokens(["newword"])
    assert len(names | {cache.compute_cache_key("key", tokenizer, None)}) == 5


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def overwrite(path: Path) -> None:
    path.write_text("not an array")


def shorten_array(path: Path) -> None:
    np.save(path, np.load(path)[:-2])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tokens", "ends", "joined"])
@pytest.mark.parametrize("damage", [Path.unlink, truncate, overwrite, shorten_array])
def test_damaged_cache_is_rebuilt(tokenizer: Any, home: Path, name: str, damage: Callable[[Path], Any]) -> None:
    boundaries = WordBoundaries(tokenizer)
    first = TokenizedDocuments(*(np.array(tokens) for tokens in tokenize_corpus(TEXTS, tokenizer, boundaries, "key")))
    (folder,) = home.iterdir()
    damage(folder / f"{name}.npy")
    assert are_equal(tokenize_corpus(TEXTS, tokenizer, boundaries, "key"), first)
    assert are_equal(tokenize_corpus(["never read"], tokenizer, boundaries, "key"), first)
    assert [path.name for path in home.iterdir()] == [folder.name]


def test_file_at_the_cache_path_is_replaced(tokenizer: Any, home: Path) -> None:
    home.mkdir(parents=True)
    path = home / cache.compute_cache_key("key", tokenizer, None)
    path.write_text("a file")
    tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert sorted(path.name for path in path.iterdir()) == ["ends.npy", "tokens.npy"]


def test_unwritable_home_is_no_error(tokenizer: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.parents[1].write_text("a file where the cache would be")  # file modes do not stop root
    tokenized = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert len(tokenized.ends) == len(TEXTS)
    assert not isinstance(tokenized.tokens, np.memmap)

    def raise_no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", raise_no_home)
    assert are_equal(tokenize_corpus(TEXTS, tokenizer, None, "key"), tokenized)


def test_corpus_without_tokens_gives_empty_arrays(tokenizer: Any) -> None:
    for _ in range(2):
        tokenized = tokenize_corpus(["\u200b", "\u200b"], tokenizer, None, "key")
        assert (len(tokenized.tokens), tokenized.ends.tolist()) == (0, [0, 0])


def tokenize_in_process(model: str, ready: Any, queue: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ready.wait()
    tokenized = tokenize_corpus(TEXTS, tokenizer, None, "key")
    queue.put(json.dumps([tokenized.tokens.tolist(), tokenized.ends.tolist()]))


def test_concurrent_processes_get_equal_tokens(tokenizer: Any, tiny_mlm: str, home: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, queue = context.Barrier(2), context.Queue()
    workers = [context.Process(target=tokenize_in_process, args=(tiny_mlm, ready, queue)) for _ in range(2)]
    for worker in workers:
        worker.start()
    tokenized = {queue.get(timeout=60) for _ in workers}
    for worker in workers:
        worker.join()
    expected = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert tokenized == {json.dumps([expected.tokens.tolist(), expected.ends.tolist()])}
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert len(list(home.iterdir())) == 1


def test_frame_has_the_special_tokens_around_a_text(tokenizer: Any) -> None:
    assert detect_frame(tokenizer) == SpecialTokens((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))


def test_frame_is_empty_without_special_tokens() -> None:
    known = {"[UNK]": 0, "[PAD]": 1, "[MASK]": 2, "却": 3}
    assert detect_frame(
        make_character_tokenizer(models.WordLevel(known, "[UNK]"), unk_token="[UNK]", pad_token="[PAD]")
    ) == SpecialTokens((), ())


def test_frame_of_a_tokenizer_that_drops_unknown_characters() -> None:
    known = {"[CLS]": 0, "[SEP]": 1, "却": 2}
    tokenizer = make_character_tokenizer(models.BPE(known, []), cls_token="[CLS]", sep_token="[SEP]")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    assert tokenizer.encode("a") == [0, 1]
    assert detect_frame(tokenizer) == SpecialTokens((0,), (1,))
