"""Tests of `llmkit data clean`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmkit import cli


def run_clean(*words: str) -> int:
    return cli.run_command_line(["data", "clean", *words])


def test_the_table_shows_the_effect_of_each_step(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.txt").write_text("<p>one &amp; two</p>\nshort\n<p>one &amp;  two</p>\n", encoding="utf-8")
    assert run_clean("in.txt", "-o", "clean", "--words", "2:", "--skip", "broken,near") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("  ")[0] == "step"
    assert lines[0].endswith("description")
    cells = {line.split()[0]: " ".join(line.split()) for line in lines[2:] if line}
    assert cells["html"] == "html 2 23 HTML to text: tags, scripts, styles and entities"
    assert cells["words"] == "words in.txt:2 1 word, fewer than 2 short"
    assert cells["duplicates"] == "duplicates in.txt:3 the same text came before one & two"
    assert lines[-1] == "1 of 3 documents and 9 of 46 characters kept in clean"


def test_json_is_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("in.txt").write_text("one\ntwo\n", encoding="utf-8")
    assert run_clean("in.txt", "-o", "clean", "--json", "--script", "latin,greek", "--near", "0.9") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads(Path("clean/report.json").read_text(encoding="utf-8"))
    assert json.loads(captured.out)["options"]["script"] == ["latin", "greek"]
    assert captured.err == ""


def test_a_column_has_two_flags() -> None:
    Path("in.csv").write_text("title,story\nx,one\n", encoding="utf-8")
    for flag, folder in (("--text", "a"), ("--column", "b")):
        assert run_clean("in.csv", flag, "story", "-o", folder) == 0
        assert '"text": "one"' in Path(folder, "text-00001.jsonl").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        ([], 64, "Missing argument 'CORPUS...'"),
        (["in.txt"], 64, "Missing option '--output-dir' / '-o'"),
        (
            ["in.txt", "-o", "out", "--skip", "htm"],
            64,
            "--skip htm: not a step that can be switched on or off; did you mean 'html'?",
        ),
        (["in.txt", "-o", "out", "--document", "page"], 64, "--document page: unknown; known: line, block, file"),
        (["none.txt", "-o", "out"], 66, "none.txt: no such file; did you mean 'in.txt'?"),
        (
            ["in.txt", "-o", "out", "--words", "9:"],
            65,
            "no text left: 1 document dropped, 1 by words; loosen",
        ),
        (["in.txt", "-o", "."], 73, ".: not empty; name another --output-dir, or remove it"),
    ],
)
def test_mistakes_are_messages_and_leave_nothing_behind(
    words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text("one\n", encoding="utf-8")
    assert run_clean(*words) == code
    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {sentence}")
    assert (captured.out, [path.name for path in Path().iterdir()]) == ("", ["in.txt"])


@pytest.mark.slow
@pytest.mark.smoke
def test_ctrl_c_ends_all_processes_and_leaves_nothing_behind() -> None:
    Path("in.txt").write_text(
        "".join(f"line {n} of a text that is long enough\n" for n in range(400_000)), encoding="utf-8"
    )
    words = [sys.executable, "-m", "llmkit", "data", "clean", "in.txt", "-o", "clean", "--workers", "2"]
    running = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    while running.poll() is None and len(list_children(running.pid)) < 3:  # two workers and the resource tracker
        time.sleep(0.05)
    started = list_children(running.pid)
    os.killpg(running.pid, signal.SIGINT)
    captured = running.communicate()[1]
    assert (running.returncode, captured) == (130, "nothing was written to clean\nerror: interrupted\n")
    assert [path.name for path in Path().iterdir()] == ["in.txt"]
    while any(map(is_alive, started)):  # the resource tracker exits last
        time.sleep(0.05)


def list_children(parent: int) -> list[int]:
    """The ids of the child processes of `parent`."""
    listed = Path(f"/proc/{parent}/task/{parent}/children")
    return [int(pid) for pid in listed.read_text(encoding="ascii").split()] if listed.exists() else []


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
