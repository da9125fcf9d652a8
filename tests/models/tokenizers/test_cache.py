"""The tokens of a corpus: those of the tokenizer, kept once, found again, and made anew where the cache is broken."""

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
from llmkit.models.tokenizers import cache as module
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


def same(one: TokenizedDocuments, other: TokenizedDocuments) -> bool:
    return all((a is None and b is None) or np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def bare(kind: Any, **special: str) -> Any:
    """A tokenizer of a few Chinese characters without anything around a text."""
    made = Tokenizer(kind)
    made.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, **special)


def test_tokens_are_those_of_the_tokenizer_and_special_names_are_text(tokenizer: Any) -> None:
    found = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert found.tokens.dtype == np.uint16
    assert found.continues_word is None
    parts = np.split(found.tokens, found.ends[:-1])
    plain = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS[:50]]
    assert [part.tolist() for part in parts[:50]] == plain
    assert not set(parts[50].tolist()) & {tokenizer.sep_token_id, tokenizer.mask_token_id}
    assert parts[51].tolist() == []
    assert not tokenizer.backend_tokenizer.encode_special_tokens  # as it was


def test_a_vocabulary_beyond_16_bits_is_kept_in_32(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    monkeypatch.setattr(type(tokenizer), "__len__", lambda _: 2**16 + 1)
    assert tokenize_corpus(TEXTS, tokenizer, None, "key").tokens.dtype == np.uint32


def test_batches_join_seamlessly(monkeypatch: pytest.MonkeyPatch, tokenizer: Any) -> None:
    joiner = WordBoundaries(tokenizer)
    whole = tokenize_corpus(TEXTS, tokenizer, joiner, "one")
    monkeypatch.setattr(module, "AT_ONCE", 7)
    assert same(tokenize_corpus(iter(TEXTS), tokenizer, joiner, "two"), whole)


def test_the_same_content_is_found_again_and_said(
    tokenizer: Any, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert capsys.readouterr().err == ""
    again = tokenize_corpus(["never read"], tokenizer, None, "key")
    assert same(first, again)
    assert isinstance(again.tokens, np.memmap)
    (folder,) = home.iterdir()  # and nothing of the making is left
    assert capsys.readouterr().err == f"tokens: {len(first.tokens):,} from the cache, {folder}\n"


def test_other_texts_tokenizers_and_words_are_other_content(tokenizer: Any, tmp_path: Path) -> None:
    names = {module.compute_cache_key("key", tokenizer, None), module.compute_cache_key("other", tokenizer, None)}
    (tmp_path / "words").write_text("却说\n", encoding="utf-8")
    names |= {
        module.compute_cache_key("key", tokenizer, WordBoundaries(tokenizer, words))
        for words in (None, str(tmp_path / "words"))
    }
    tokenizer.add_tokens(["newword"])
    assert len(names | {module.compute_cache_key("key", tokenizer, None)}) == 5


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-9])


def no_array(path: Path) -> None:
    path.write_text("no array")


def fewer(path: Path) -> None:
    np.save(path, np.load(path)[:-2])


@pytest.mark.parametrize("name", ["tokens", "ends", "joined"])
@pytest.mark.parametrize("damage", [Path.unlink, cut_short, no_array, fewer])
def test_a_broken_cache_is_made_anew(tokenizer: Any, home: Path, name: str, damage: Callable[[Path], Any]) -> None:
    joiner = WordBoundaries(tokenizer)
    first = TokenizedDocuments(*(np.array(part) for part in tokenize_corpus(TEXTS, tokenizer, joiner, "key")))
    (folder,) = home.iterdir()
    damage(folder / f"{name}.npy")
    assert same(tokenize_corpus(TEXTS, tokenizer, joiner, "key"), first)
    assert same(tokenize_corpus(["never read"], tokenizer, joiner, "key"), first)
    assert [one.name for one in home.iterdir()] == [folder.name]


def test_a_file_in_the_place_of_the_cache_gives_way(tokenizer: Any, home: Path) -> None:
    home.mkdir(parents=True)
    place = home / module.compute_cache_key("key", tokenizer, None)
    place.write_text("a file")
    tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert sorted(one.name for one in place.iterdir()) == ["ends.npy", "tokens.npy"]


def test_a_home_that_cannot_be_written_is_done_without(
    tokenizer: Any, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.parents[1].write_text("a file where the cache would be")  # a mode would not stop root
    found = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert len(found.ends) == len(TEXTS)
    assert not isinstance(found.tokens, np.memmap)

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert same(tokenize_corpus(TEXTS, tokenizer, None, "key"), found)


def test_a_corpus_without_a_token_is_empty_arrays(tokenizer: Any) -> None:
    for _ in range(2):
        found = tokenize_corpus(["\u200b", "\u200b"], tokenizer, None, "key")
        assert (len(found.tokens), found.ends.tolist()) == (0, [0, 0])


def make(model: str, ready: Any, done: Any) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    ready.wait()
    found = tokenize_corpus(TEXTS, tokenizer, None, "key")
    done.put(json.dumps([found.tokens.tolist(), found.ends.tolist()]))


def test_two_processes_at_once_get_the_same(tokenizer: Any, tiny_mlm: str, home: Path) -> None:
    context = multiprocessing.get_context("fork")
    ready, done = context.Barrier(2), context.Queue()
    both = [context.Process(target=make, args=(tiny_mlm, ready, done)) for _ in range(2)]
    for one in both:
        one.start()
    found = {done.get(timeout=60) for _ in both}
    for one in both:
        one.join()
    expected = tokenize_corpus(TEXTS, tokenizer, None, "key")
    assert found == {json.dumps([expected.tokens.tolist(), expected.ends.tolist()])}
    assert [one.exitcode for one in both] == [0, 0]
    assert len(list(home.iterdir())) == 1


def test_a_frame_is_what_the_tokenizer_puts_around_a_text(tokenizer: Any) -> None:
    assert detect_frame(tokenizer) == SpecialTokens((tokenizer.cls_token_id,), (tokenizer.sep_token_id,))


def test_a_tokenizer_without_special_tokens_around_has_an_empty_frame() -> None:
    known = {"[UNK]": 0, "[PAD]": 1, "[MASK]": 2, "却": 3}
    assert detect_frame(bare(models.WordLevel(known, "[UNK]"), unk_token="[UNK]", pad_token="[PAD]")) == SpecialTokens(
        (), ()
    )


def test_a_tokenizer_that_makes_nothing_of_a_letter_has_its_frame_all_the_same() -> None:
    known = {"[CLS]": 0, "[SEP]": 1, "却": 2}
    made = bare(models.BPE(known, []), cls_token="[CLS]", sep_token="[SEP]")
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 0), ("[SEP]", 1)]
    )
    assert made.encode("a") == [0, 1]
    assert detect_frame(made) == SpecialTokens((0,), (1,))
