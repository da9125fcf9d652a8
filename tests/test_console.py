"""Tests of console output: results on stdout, messages on stderr, never a control character or a token."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmkit import console
from llmkit.errors import sanitize_text

Captured = pytest.CaptureFixture[str]
REPLACED = "\N{REPLACEMENT CHARACTER}"


class Stream(io.StringIO):
    """A stream with an encoding, possibly a terminal."""

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
def test_sanitized_text_has_one_line_and_no_escapes(text: str) -> None:
    sanitized = sanitize_text(text)
    assert len(sanitized.splitlines()) <= 1
    assert len(sanitized) == len(text)
    assert "\x1b" not in sanitized
    sanitized.encode()


@pytest.mark.parametrize(
    "bad", ["\x1b[31m", "\x9b31m", "\r", "\n", "\0", "\x08", "\u202e", "\u2066", "\u2028", "\udce9"]
)
def test_control_characters_are_replaced(bad: str) -> None:
    assert sanitize_text(f"a{bad}b") == f"a{REPLACED}{bad[1:]}b"


@pytest.mark.parametrize("good", ["评论", "שלום", "e\u0301", "👩\u200d👧", "<b>[red]", "a\u00a0b"])
def test_text_of_any_script_is_unchanged(good: str) -> None:
    assert sanitize_text(good) == good


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
    assert console.redact_secrets(text) == redacted


def test_messages_are_printed_once_within_the_block(capsys: Captured) -> None:
    with console.print_messages_once():
        with console.print_messages_once():
            console.print_message("one")
        for text in ("one", "two", "two"):
            console.print_message(text)
    console.print_message("two")
    assert capsys.readouterr().err == "one\ntwo\ntwo\n"


def test_messages_and_errors_go_to_stderr_without_tokens(capsys: Captured) -> None:
    console.print_message("a\nb hf_abcdefgh12345678")
    console.print_error("what\x1b; fix\n  token=x")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == f"a{REPLACED}b ***\nerror: what{REPLACED}; fix\n  token=***\n"


def test_results_go_to_stdout(capsys: Captured) -> None:
    console.print_result("one\ntwo\x1b")
    console.print_result()
    console.print_json({"评": "a\n\x1b", "n": 0.5})
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == f'one\ntwo{REPLACED}\n\n{{"评": "a\\n\\u001b", "n": 0.5}}\n'


def test_json_rejects_nan() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        console.print_json({"value": float("nan")})


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "gb18030", "cp1252"])
def test_any_text_can_be_printed_in_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream(encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    record = {"评é": "😀\udce9\x7f"}
    console.print_json(record)
    console.print_json_line(json.dumps(record, ensure_ascii=False))
    assert [json.loads(line) for line in stream.getvalue().splitlines()] == [record, record]
    console.print_result("评é 😀 \udce9")
    console.print_table(["评é"], [["😀\udce9"]], title="é评")


def test_a_closed_pipe_ends_the_command_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(Stream):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def fileno(self) -> int:
            return spare

    with Path("spare").open("w") as file:
        spare = file.fileno()
        monkeypatch.setattr(sys, "stdout", Closed())
        with pytest.raises(SystemExit) as caught:
            console.print_result("x")
    assert caught.value.code == 0


def test_a_table_shows_chinese_and_markup_unchanged(capsys: Captured) -> None:
    long = "长" * 300
    console.print_table(["name", "评"], [["[red]x[/red]", 1], [long, 22], ["a\nb\x1b", 3]], numbers={1}, title="T [b]")
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].rstrip() == "T [b]"
    assert "[red]x[/red]" in lines[3]
    assert long in lines[4]
    assert lines[5].startswith(f"a{REPLACED}b{REPLACED} ")
    assert [line.rstrip()[-2:] for line in lines[3:]] == [" 1", "22", " 3"]


def test_only_the_main_process_prints(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    console.print_message("a")
    console.print_result("b")
    console.print_json({"c": 1})
    console.print_table(["d"], [["e"]])
    with console.show_progress("f", 2) as advance:
        advance(1, "g")
    assert capsys.readouterr() == ("", "")
    console.print_error("errors are printed by any process")
    assert capsys.readouterr().err == "error: errors are printed by any process\n"


class Clock:
    """A clock that stands still until the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(console.time, "monotonic", lambda: self.now)


def test_without_a_terminal_progress_is_printed_as_lines(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    with console.show_progress("train", 4000) as advance:
        for seconds, facts in [(29, ()), (31, ["loss 0.5\x1b", "9 tokens/s"]), (60, ()), (61.5, ())]:
            clock.now = seconds
            advance(1000, facts)
    with console.show_progress("read") as advance, console.show_progress("within") as advance_within:
        clock.now += 30
        advance(3)
        advance_within(2, left=3601.0)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"train: 2,000 of 4,000  loss 0.5{REPLACED}  9 tokens/s  31 s left",
        "train: 4,000 of 4,000  0 s left",
        "read: 3",
        "within: 2  1 h 0 m left",
    ]


FACTS = ["epoch 0.06", "loss 0.681", "12.3k tokens/s", "pad 4%"]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (200, f"training {'━' * 40} 12,120/63,150  epoch 0.06  loss 0.681  12.3k tokens/s  pad 4%  1 h 40 m left"),
        (80, "━━━ 12,120/63,150  epoch 0.06  loss 0.681  12.3k tokens/s  pad 4%  1 h 40 m left"),
        (70, "━━━━━ 12,120/63,150  loss 0.681  12.3k tokens/s  pad 4%  1 h 40 m left"),
        (20, "━━━━━━ 12,120/63,150"),
    ],
)
def test_a_bar_fits_its_terminal(width: int, line: str) -> None:
    bar = console.ProgressState("training", 63_150, 0.0, True, 0.0, 12_120, FACTS, 6000.0)
    assert render(bar, width) == line


def test_a_bar_without_a_total_shows_a_count() -> None:
    assert render(console.ProgressState("reading", None, 0.0, True, 0.0, 1200), 80) == "reading 1,200"


def test_a_bar_without_time_left_shows_the_count() -> None:
    assert render(console.ProgressState("[b]", 8, 0.0, True, 0.0, 0), 20) == f"[b] {'━' * 12} 0/8"


def render(bar: console.ProgressState, width: int) -> str:
    return "\n".join(draw_lines(lambda screen: console.render_bar(bar, screen.width), width))


def draw_lines(draw: Callable[[Any], Any], width: int) -> list[str]:
    """The lines on a terminal, with colours removed; without a colour system the rest of a bar would be blank."""
    from rich.console import Console

    stream = io.StringIO()
    screen = Console(file=stream, width=width, force_terminal=True, color_system="standard", legacy_windows=False)
    screen.print(draw(screen))
    plain = re.sub(r"\x1b\[[0-9;]*m", "", stream.getvalue()).replace("╸", "━").replace("╺", "━")
    return [line.rstrip() for line in plain.splitlines()]


def open_terminal(monkeypatch: pytest.MonkeyPatch, columns: int = 80) -> Any:
    """Replace stderr by a terminal, and return it."""
    stream: Any = Stream(terminal=True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys, "stderr", stream)
    return stream


def test_on_a_terminal_progress_is_a_transient_bar(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_terminal(monkeypatch)
    with console.show_progress("train", 2) as advance:
        advance(2, ["loss [b]\x1b"])
        console.print_message("in between")
    assert "train" in stream.getvalue()
    assert f"2/2  loss [b]{REPLACED}" in stream.getvalue()
    assert "in between\n" in stream.getvalue()
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")  # the line is cleared
    assert capsys.readouterr().out == ""


def test_nested_bars_share_a_display_and_short_ones_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = open_terminal(monkeypatch), Clock(monkeypatch)
    with console.show_progress("outer", 2), console.show_progress("inner", 3) as advance:
        early = draw_lines(console.render_bars, 30)
        clock.now = 1.0
        advance(1)
        late = draw_lines(console.render_bars, 30)
    assert early == [f"outer {'━' * 20} 0/2"]
    assert late == [f"outer {'━' * 20} 0/2", "inner ━━━━━━━━━━ 1/3  2 s left"]
    assert draw_lines(console.render_bars, 30) == []
    assert stream.getvalue().count("\x1b[?25l") == 1  # one display hid the cursor
    assert stream.getvalue().count("\x1b[?25h") == 1


@pytest.mark.parametrize(("name", "value"), [("TERM", "dumb"), ("TTY_COMPATIBLE", "0")])
def test_a_dumb_terminal_gets_lines(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream, clock = open_terminal(monkeypatch), Clock(monkeypatch)
    monkeypatch.setenv(name, value)
    with console.show_progress("train", 2) as advance:
        clock.now = 30
        advance(1)
    assert stream.getvalue() == "train: 1 of 2  30 s left\n"


def test_an_interrupt_removes_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open_terminal(monkeypatch)
    with pytest.raises(KeyboardInterrupt), console.show_progress("outer", 2), console.show_progress("inner", 2):
        raise KeyboardInterrupt
    assert console.ACTIVE_BARS == []
    assert sys.stderr is stream
    assert stream.getvalue().endswith("\x1b[1A\x1b[2K")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.031, "0.031 s"), (3, "3 s"), (3.14, "3.1 s"), (9.7, "10 s"), (59.4, "59 s"), (59.6, "1 m 0 s"), (100, "1 m 40 s"),
     (3599.7, "1 h 0 m"), (7499, "2 h 5 m"), (86_390, "1 d 0 h"), (360_000, "4 d 4 h")],
)  # fmt: skip
def test_durations_are_formatted_for_people(seconds: float, text: str) -> None:
    assert console.format_duration(seconds) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (0.5, "0.5"), (950, "950"), (999.6, "1k"), (12_345, "12.3k"), (999_999, "1M"), (1.05e6, "1.05M"), (2e9, "2G")],
)  # fmt: skip
def test_large_numbers_are_shortened(number: float, text: str) -> None:
    assert console.format_short_number(number) == text


@pytest.mark.parametrize("bad", ["\x7f", "\x9b", "\x85", "\u061c", "\u200f", "\u202e", "\u2066", "\u2028", "\u2029"])
def test_json_escapes_control_characters_without_loss(bad: str, capsys: Captured) -> None:
    console.print_json({f"k{bad}": f"评{bad}", "deep": [bad]})
    captured = capsys.readouterr().out
    assert captured == f'{{"k\\u{ord(bad):04x}": "评\\u{ord(bad):04x}", "deep": ["\\u{ord(bad):04x}"]}}\n'
    assert json.loads(captured) == {f"k{bad}": f"评{bad}", "deep": [bad]}
