"""The folder of a trained tokenizer loads in transformers, is verified, and is complete or absent."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import llmkit
from llmkit.data.corpus.holdout import hold_out_texts
from llmkit.errors import DataError, DiskError, InternalError, LlmkitError, MissingInputError, OutputError, UsageError
from llmkit.models.tokenizer_training import train
from llmkit.models.tokenizer_training.fertility import measure_fertility
from llmkit.models.tokenizer_training.pipelines import TOKENIZER_BUILDERS
from llmkit.models.tokenizer_training.train import train_tokenizer
from llmkit.testing import make_sentences, write_jsonl, write_lines


@pytest.fixture
def corpus() -> str:
    return write_lines("corpus.txt", make_sentences(600) + make_sentences(600, chinese=True))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOKENIZER_BUILDERS)
def test_folder_loads_in_transformers_with_its_report(kind: str, corpus: str) -> None:
    trained = llmkit.train_tokenizer(corpus, output_dir="a/tok", kind=kind, vocab_size=330, max_length=9)
    loaded = AutoTokenizer.from_pretrained("a/tok")
    assert (len(loaded), loaded.model_max_length) == (330, 9)
    assert [loaded.pad_token, loaded.unk_token, loaded.cls_token, loaded.sep_token, loaded.mask_token] == [
        "[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # fmt: skip
    lines = Path(corpus).read_text().splitlines()
    holdout = hold_out_texts(lambda: lines, 0.05)
    assert trained.holdout_fertility == measure_fertility(loaded, holdout.texts, 9)
    assert trained.training["documents"] == holdout.remaining == len(lines) - len(holdout.texts)
    assert json.loads(Path("a/tok/report.json").read_text()) == trained.as_dict()
    assert sorted(path.name for path in Path("a").iterdir()) == ["tok"]
    assert loaded("kato ri", truncation=True, max_length=3)["input_ids"][0] == loaded.cls_token_id


def test_holdout_texts_are_not_trained_on() -> None:
    lines = make_sentences(600)
    held_out = hold_out_texts(lambda: lines, 0.05).texts[0]
    rare = [line + " ЖЖЖ" * (line == held_out) for line in lines]  # in one line only, which may change its split
    trained = train_tokenizer(write_lines("c.txt", rare), output_dir="tok", vocab_size=100)
    unseen = hold_out_texts(lambda: rare, 0.05).contains(held_out + " ЖЖЖ")
    assert (trained.holdout_fertility.unknown_rate > 0) == unseen
    assert ("Ж" in AutoTokenizer.from_pretrained("tok").get_vocab()) != unseen


def test_result_is_independent_of_order_compression_and_files(corpus: str) -> None:
    lines = Path(corpus).read_text().splitlines()
    Path("parts").mkdir()
    with gzip.open("parts/b.txt.gz", "wt", encoding="utf-8") as file:
        file.write("\n".join(lines[:500]))
    write_jsonl("parts/a.jsonl", [{"text": line} for line in lines[500:]])
    one = train_tokenizer(corpus, output_dir="one", vocab_size=300)
    two = train_tokenizer(["parts"], output_dir="two", vocab_size=300)
    assert one.as_dict() == two.as_dict()
    for name in ("tokenizer.json", "tokenizer_config.json", "report.json"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()


def test_empty_folder_is_used_and_small_holdout_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    Path("tok").mkdir()
    train_tokenizer(write_lines("c.txt", make_sentences(40)), output_dir="tok", vocab_size=60)
    assert Path("tok/tokenizer.json").is_file()
    stderr = capsys.readouterr().err
    assert "held out: the report is unreliable; use more text or a larger --holdout\n" in stderr


@pytest.mark.parametrize(
    ("kwargs", "kind", "sentence"),
    [
        ({"corpus": "none/c.txt"}, MissingInputError, "none/c.txt: no such file; there is no folder 'none'; check the path"),
        ({"corpus": "blank.txt"}, DataError, "blank.txt: no text in it; use more text, or split it differently with --document"),
        ({"corpus": "one.txt"}, DataError, "one.txt: a single document; use more text, or split it differently with --document"),
        ({"corpus": "same.txt"}, DataError, "same.txt: 3 documents, all identical; use more text, or split it differently with --document"),
        ({"corpus": ["one.txt", "latin.txt"]}, DataError, "latin.txt:2: byte 0xe9 is not UTF-8; "),
        ({"kind": "bert"}, UsageError, "--kind bert: unknown; known: wordpiece, bpe, unigram"),
        ({"kind": "word"}, UsageError, "--kind word: unknown; did you mean 'wordpiece'?"),
        ({"document": "lines"}, UsageError, "--document lines: unknown; did you mean 'line'?"),
        ({"vocab_size": 0}, UsageError, "--vocab-size 0: out of range; write a few thousand, such as 8000"),
        ({"vocab_size": 10**9}, UsageError, "--vocab-size 1000000000: out of range; write a few thousand, such as 8000"),
        ({"max_length": 2}, UsageError, "--max-length 2: no room for text between [CLS] and [SEP]; write 3 or more"),
        ({"min_frequency": 0}, UsageError, "--min-frequency 0: out of range; write 1 or more"),
        ({"min_frequency": 2, "kind": "unigram"}, UsageError, "--min-frequency with --kind unigram: it selects tokens by likelihood, not by frequency; leave it out"),
        ({"holdout": 0.6}, UsageError, "--holdout 0.6: out of range; write a share from 0 to 0.5"),
        ({"holdout": float("nan")}, UsageError, "--holdout nan: out of range; write a share from 0 to 0.5"),
        ({"output_dir": "full"}, OutputError, "full: not an empty folder: it holds a, b, c and 1 more; name another -o FOLDER"),
        ({"output_dir": "stands"}, OutputError, "stands: a file of this name exists; name another -o FOLDER"),
        ({"output_dir": "."}, OutputError, ".: this is the current folder; name a new one with -o FOLDER"),
        ({"output_dir": "stands/tok"}, OutputError, "stands/tok: "),
    ],
)  # fmt: skip
def test_error_messages_and_nothing_written(kwargs: dict[str, Any], kind: type[LlmkitError], sentence: str) -> None:
    write_lines("blank.txt", ["", " \t", "\u3000"])
    write_lines("one.txt", ["a line", ""])
    write_lines("same.txt", ["a line"] * 3)
    Path("latin.txt").write_bytes(b"a line\ncaf\xe9 au lait\n")
    write_lines("stands", ["a file"])
    Path("full").mkdir()
    for name in "abcd":
        Path("full", name).touch()
    before = sorted(Path().rglob("*"))
    with pytest.raises(kind) as caught:
        train_tokenizer(**{"corpus": "one.txt", "output_dir": "deep/tok"} | kwargs)
    assert str(caught.value).startswith(sentence)
    assert sorted(Path().rglob("*")) == before


def test_too_little_text_writes_nothing(corpus: str) -> None:
    with pytest.raises(
        DataError, match=r"^corpus.txt: enough text for [\d,]+ tokens, not for --vocab-size 9,999; write"
    ):
        train_tokenizer(corpus, output_dir="deep/tok", vocab_size=9999)
    assert list(Path().iterdir()) == [Path(corpus)]


@pytest.mark.parametrize(("number", "kind"), [(28, DiskError), (13, OutputError)])
def test_failed_write_leaves_nothing(
    number: int, kind: type[LlmkitError], corpus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(_: Any, path: Path, __: int) -> None:
        (path / "tokenizer.json").touch()
        raise OSError(number, "no")

    monkeypatch.setattr(train, "write_tokenizer_files", raise_error)
    with pytest.raises(kind):
        train_tokenizer(corpus, output_dir="deep/tok", vocab_size=300)
    assert list(Path().iterdir()) == [Path(corpus)]


def test_folder_that_reloads_differently_is_not_created(corpus: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files = train.write_tokenizer_files

    def write_damaged_files(tokenizer: Any, path: Path, max_length: int) -> None:
        write_files(tokenizer, path, max_length)
        file = path / "tokenizer.json"
        content = json.loads(file.read_text())
        ids = content["model"]["vocab"]
        content["model"]["vocab"] = {piece: i if i < 5 else len(ids) + 4 - i for piece, i in ids.items()}
        file.write_text(json.dumps(content))

    monkeypatch.setattr(train, "write_tokenizer_files", write_damaged_files)
    with pytest.raises(InternalError, match="the saved tokenizer does not produce the same tokens as the trained one"):
        train_tokenizer(corpus, output_dir="tok", vocab_size=300)
    assert list(Path().iterdir()) == [Path(corpus)]


def test_training_without_a_holdout(capsys: pytest.CaptureFixture[str]) -> None:
    Path("three.txt").write_text("我喜欢看电影。\n我喜欢听音乐。\n我喜欢阅读。\n", encoding="utf-8")
    trained = train_tokenizer("three.txt", output_dir="tok", vocab_size=17, holdout=0)
    assert trained.training["documents"] == 3
    assert "no documents are held out: the report is on the training texts" in capsys.readouterr().err
