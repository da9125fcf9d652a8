"""Tests of `llmkit doctor`: the printed findings, their width, and the exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import llmkit
from llmkit import cli
from llmkit.cli.doctor import format_finding
from llmkit.report.doctor import check
from llmkit.report.doctor.finding import Finding, shorten_path

OK = Finding("torch", "ok", "2.13.0 (tested >=2.13,<3)")
NOTE = Finding("Hub", "note", "https://huggingface.co does not respond (OSError: no route); a local run does not need it",
               "set HF_HUB_OFFLINE=1")  # fmt: skip
FAULT = Finding("scipy", "fault", "not installed (tested >=1.17,<2)", "pip install 'scipy>=1.17,<2'")


@pytest.fixture
def findings(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """The findings of the next checks."""
    found = [OK, NOTE]
    monkeypatch.setattr(check, "run_doctor_checks", lambda: iter(found))
    return found


def test_notes_do_not_fail(findings: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["doctor"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out == (
        "ok    torch               2.13.0 (tested >=2.13,<3)\n"
        f"note  Hub                 {NOTE.detail}\n"
        "                          fix: set HF_HUB_OFFLINE=1\n"
        "\nNothing here stops a run.\n"
    )


def test_a_fault_is_named_last_and_sets_the_exit_code(
    findings: list[Finding], capsys: pytest.CaptureFixture[str]
) -> None:
    findings += [FAULT, FAULT]
    assert cli.run_command_line(["doctor"]) == 78
    assert capsys.readouterr().out.endswith("fix: pip install 'scipy>=1.17,<2'\n\nWhat stops a run: scipy.\n")


def test_json_is_one_object(findings: list[Finding], capsys: pytest.CaptureFixture[str]) -> None:
    findings.append(FAULT)
    assert cli.run_command_line(["doctor", "--json"]) == 78
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.count("\n") == 1
    record = json.loads(captured.out)
    assert (record["schema"], record["faults"], record["notes"]) == (1, 1, 1)
    assert record["findings"][2] == {
        "what": "scipy", "status": "fault", "detail": "not installed (tested >=1.17,<2)",
        "fix": "pip install 'scipy>=1.17,<2'",
    }  # fmt: skip


def test_lines_fit_in_eighty_columns(
    findings: list[Finding], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    assert cli.run_command_line(["doctor"]) == 0
    assert capsys.readouterr().out.splitlines()[1:4] == [
        "note  Hub                 https://huggingface.co does not respond (OSError: no",
        "                          route); a local run does not need it",
        "                          fix: set HF_HUB_OFFLINE=1",
    ]


@pytest.mark.parametrize("columns", [1, 40, 80])
def test_no_width_truncates_text(columns: int) -> None:
    path = "/a/very/long/path/" + "x" * 90
    one = Finding("disk", "note", f"1 GiB free in {path}: low", "an \x1b[31mescape")
    words = format_finding(one, columns).split()
    assert words == ["note", "disk", "1", "GiB", "free", "in", f"{path}:", "low", "fix:", "an", "\ufffd[31mescape"]


def test_each_install_command_fits_in_eighty_columns() -> None:
    for wanted in check.read_requirements():
        command = f"pip install '{wanted.name}{check.format_version_range(wanted.specifier)}'"
        assert f"fix: {command}" in format_finding(Finding(wanted.name, "fault", "not installed", command), 80)


def test_another_process_than_the_main_one_is_rejected(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert cli.run_command_line(["doctor"]) == 64
    message = "RANK and WORLD_SIZE mark this as one of several processes; unset RANK WORLD_SIZE, then run it again"
    assert capsys.readouterr().err == f"error: {message}\n"


def test_this_installation_without_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.run_command_line(["doctor", "--json"])
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)["findings"]}
    assert {"system", "Python", "llmkit", "torch", "transformers", "CPU", "threads", "GPU", "memory", "disk here",
            "disk, Hub cache", "Hub", "proxy", "Hub token", "environment", "default model"} - {"GPU"} <= found.keys()  # fmt: skip
    assert found["Hub"]["detail"].startswith("not checked: ")
    assert f" in {shorten_path(Path(llmkit.__file__).parent)}" in found["llmkit"]["detail"]
    assert code == (78 if any(one["status"] == "fault" for one in found.values()) else 0)


@pytest.mark.slow
def test_without_torch_there_are_findings_and_no_traceback() -> None:
    code = "import sys\nsys.modules['torch'] = None\nfrom llmkit.cli import run_command_line\nsys.exit(run_command_line(['doctor']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 78
    assert "Traceback" not in done.stdout + done.stderr
    assert "fix: pip install --force-reinstall 'torch==" in done.stdout
    assert "fix: fix torch first" in done.stdout
