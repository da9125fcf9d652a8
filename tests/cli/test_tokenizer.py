"""Tests of `llmkit tokenizer train` and `report`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmkit import cli
from llmkit.testing import make_sentences, write_jsonl, write_lines


def test_train_then_report(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    lines = make_sentences(800)
    words = [
        "tokenizer",
        "train",
        write_lines("corpus.txt", lines),
        "--vocab-size",
        "200",
        "-o",
        "tok",
        "--max-length",
        "9",
    ]
    assert cli.run_command_line(words) == 0
    shown = capsys.readouterr().out
    about = json.loads(Path("tok/report.json").read_text())
    assert f"tok: wordpiece, trained on {800 - about['texts']} documents; on held-out documents:" in shown
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"texts read {about['texts']}" in rows
    assert "vocabulary size 200" in rows
    assert f"tokens per word {about['fertility']:.3f}" in rows
    assert f"texts truncated at 9 tokens {about['cut_rate']:.2%}".replace("%", " %") in rows

    assert cli.run_command_line(["tokenizer", "report", "tok", "corpus.txt", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["tokenizer"], record["texts"], record["max_length"]) == ("tok", 800, 9)


def test_json_is_the_report_in_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_jsonl("c.jsonl", [{"body": line} for line in make_sentences(300)])
    words = ["tokenizer", "train", corpus, "--column", "body", "--kind", "bpe", "--vocab-size", "300", "--lowercase"]
    assert cli.run_command_line([*words, "-o", "tok", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record == json.loads(Path("tok/report.json").read_text())
    assert (
        record["training"].items() >= {"kind": "bpe", "lowercase": True, "min_frequency": 2, "document": "line"}.items()
    )


@pytest.mark.slow
def test_the_tokenizer_is_trained_on_all_named_columns(capsys: pytest.CaptureFixture[str]) -> None:
    pairs = zip(make_sentences(300), make_sentences(300, chinese=True), strict=True)
    corpus = write_jsonl("pairs.jsonl", [{"en": en, "zh": zh} for en, zh in pairs])
    both = ["--column", "en", "--column", "zh"]
    words = ["tokenizer", "train", corpus, "--kind", "unigram", "--vocab-size", "250", "-o"]
    assert cli.run_command_line([*words, "both", *both, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["training"]["documents"] + record["texts"] == 600
    for column in ("en", "zh"):
        assert cli.run_command_line(["tokenizer", "report", "both", corpus, "--column", column, "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["unknown_rate"] < 0.02
    assert cli.run_command_line(["tokenizer", "report", "both", corpus, *both, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["texts"] == 600
    assert cli.run_command_line([*words, "none", "--column", "en", "--column", "de"]) == 65
    assert capsys.readouterr().err == (
        "error: pairs.jsonl:1: no 'de'; write it in every row, or name another column with --column\n"
    )
    assert not Path("none").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["train", "c.txt"], 64, "Missing option '--output-dir'"),
        (["train", "-o", "tok"], 64, "Missing argument 'CORPUS...'"),
        (["train", "c.txt", "-o", "tok", "--kind", "bert"], 64, "--kind bert: unknown; known: wordpiece, bpe, unigram"),
        (["train", "none/c.txt", "-o", "tok"], 66, "none/c.txt: no such file; there is no folder 'none'; check the path"),
        (["train", "c.txt", "-o", "tok"], 65, "c.txt:2: byte 0xfc is not UTF-8; it looks like cp1252: --encoding cp1252 reads it"),
        (["train", "c.txt", "-o", "tok", "--encoding", "utf8x"], 78, "--encoding: no text encoding is called 'utf8x'"),
        (["report", "runs/none", "c.txt"], 66, "runs/none: no such folder"),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("c.txt").write_bytes("a line\nMünchen, café, über Straßen — “so”\n".encode("cp1252"))
    assert cli.run_command_line(["tokenizer", *arguments]) == code
    captured = capsys.readouterr()
    assert captured.err.splitlines()[-1].startswith(f"error: {message}")
    assert captured.out == ""
    assert list(Path().iterdir()) == [Path("c.txt")]


def test_without_a_command_it_prints_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["tokenizer"]) == 0
    assert "train" in capsys.readouterr().out
