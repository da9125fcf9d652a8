"""What is printed: results on stdout, all else on stderr, never a control character, never a token."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit import console

Captured = pytest.CaptureFixture[str]
GONE = "\N{REPLACEMENT CHARACTER}"


class Stream(io.StringIO):
    """A stream of some encoding that may be a terminal."""

    def __init__(self, encoding: str = "utf-8", terminal: bool = False) -> None:
        super().__init__()
        self.name, self.terminal = encoding, terminal

    @property
    def encoding(self) -> str:
        return self.name

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        text.encode(self.name)
        return super().write(text)


@given(st.text(st.characters()))
def test_plain_text_has_one_line_and_steers_nothing(text: str) -> None:
    said = console.plain(text)
    assert len(said.splitlines()) <= 1
    assert len(said) == len(text)
    assert "\x1b" not in said
    said.encode()


@pytest.mark.parametrize(
    "bad", ["\x1b[31m", "\x9b31m", "\r", "\n", "\0", "\x08", "\u202e", "\u2066", "\u2028", "\udce9"]
)
def test_what_steers_a_terminal_is_replaced(bad: str) -> None:
    assert console.plain(f"a{bad}b") == f"a{GONE}{bad[1:]}b"


@pytest.mark.parametrize("good", ["评论", "שלום", "e\u0301", "👩\u200d👧", "<b>[red]", "a\u00a0b"])
def test_any_script_stays_as_it_is(good: str) -> None:
    assert console.plain(good) == good


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("hf_abcdefgh12345678", "***"),
        ("model=hf_abcdefgh12345678.", "model=***."),
        ("--token=s3cret x", "--token=*** x"),
        ("HF_TOKEN=s3cret", "HF_TOKEN=***"),
        ("password=a&b", "password=***"),
        ("API_KEY=k", "API_KEY=***"),
        ("https://me:pw@host/x", "https://***@host/x"),
        ("https://host/x@y:z", "https://host/x@y:z"),
        ("hf_short", "hf_short"),
        ("the token is lost", "the token is lost"),
    ],
)
def test_tokens_are_redacted(text: str, redacted: str) -> None:
    assert console.redacted(text) == redacted


def test_notes_and_mistakes_go_to_stderr_without_tokens(capsys: Captured) -> None:
    console.note("a\nb hf_abcdefgh12345678")
    console.error("what\x1b; mend\n  token=x")
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"a{GONE}b ***\nerror: what{GONE}; mend\n  token=***\n"


def test_results_go_to_stdout(capsys: Captured) -> None:
    console.out("one\ntwo\x1b")
    console.out()
    console.out_json({"评": "a\n\x1b", "n": 0.5})
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out == f'one\ntwo{GONE}\n\n{{"评": "a\\n\\u001b", "n": 0.5}}\n'


def test_json_holds_no_number_that_is_none() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.out_json({"value": float("nan")})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "gb18030", "cp1252"])
def test_a_stream_of_any_encoding_takes_any_text(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    record = {"评é": "😀\udce9\x7f"}
    console.out_json(record)
    console.out_json_text(json.dumps(record, ensure_ascii=False))
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [record, record]
    console.out("评é 😀 \udce9")
    console.table(["评é"], [["😀\udce9"]], title="é评")


def test_a_reader_that_left_ends_the_command_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return spare

    with Path("spare").open("w") as file:
        spare = file.fileno()
        monkeypatch.setattr(sys, "stdout", Gone())
        with pytest.raises(SystemExit) as caught:
            console.out("x")
    assert caught.value.code == 0


def test_a_table_shows_chinese_and_what_looks_like_markup_as_it_is(capsys: Captured) -> None:
    long = "长" * 300
    console.table(["name", "评"], [["[red]x[/red]", 1], [long, 22], ["a\nb\x1b", 3]], numbers={1}, title="T [b]")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "T [b]"
    assert "[red]x[/red]" in lines[3]
    assert long in lines[4]
    assert lines[5].startswith(f"a{GONE}b{GONE} ")
    assert [line.rstrip()[-2:] for line in lines[3:]] == [" 1", "22", " 3"]


def test_only_the_first_process_speaks(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    console.note("a")
    console.out("b")
    console.out_json({"c": 1})
    console.table(["d"], [["e"]])
    with console.progress("f", 2) as advance:
        advance(1, "g")
    assert capsys.readouterr() == ("", "")
    console.error("a mistake is said by whoever made it")
    assert capsys.readouterr().err == "error: a mistake is said by whoever made it\n"


def test_without_a_terminal_progress_is_a_line_now_and_then(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 1.0, 10.5, 10.5, 11.0, 99.0, 99.0, 99.0, 200.0, 200.0])
    monkeypatch.setattr(console.time, "monotonic", lambda: next(times))
    with console.progress("train", 4000) as advance:
        advance(1000)
        advance(1000, "loss 0.5\x1b")
        advance(1000)
        advance(1000)
    with console.progress("read") as advance:
        advance(3)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == f"train: 2,000 of 4,000  loss 0.5{GONE}\ntrain: 4,000 of 4,000\nread: 3\n"


def test_on_a_terminal_progress_is_a_bar_on_stderr(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    stream: Any = Stream(terminal=True)
    monkeypatch.setattr(sys, "stderr", stream)
    with console.progress("train", 2) as advance:
        advance(2, "loss [b]\x1b")
    assert "train" in stream.getvalue()
    assert "2/2" in stream.getvalue()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("bad", ["\x7f", "\x9b", "\x85", "\u061c", "\u200f", "\u202e", "\u2066", "\u2028", "\u2029"])
def test_json_steers_no_terminal_and_loses_nothing(bad: str, capsys: Captured) -> None:
    console.out_json({f"k{bad}": f"评{bad}", "deep": [bad]})
    said = capsys.readouterr().out
    assert said == f'{{"k\\u{ord(bad):04x}": "评\\u{ord(bad):04x}", "deep": ["\\u{ord(bad):04x}"]}}\n'
    assert json.loads(said) == {f"k{bad}": f"评{bad}", "deep": [bad]}
