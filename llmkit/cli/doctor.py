"""The command `doctor`: checks the installation and the machine, and prints what stops or changes a run."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit import console
from llmkit.cli.options import DebugOption
from llmkit.errors import UsageError, sanitize_text

if TYPE_CHECKING:
    from llmkit.report.doctor.finding import Finding

# EX_CONFIG of sysexits: an installation can be configured wrongly, as a recipe can. 70 would mean an internal error of
# llmkit, and a Hub that does not respond (69) stops no local run.
CONFIG_ERROR_EXIT_CODE = 78
FINDING_INDENT = 26  # columns of the status and of the subject


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Check what on this machine stops or changes a run.

    Versions, devices, disk, the Hub and the environment. A note changes a run; a fault stops one, and the exit code
    is 78. No token and no password is shown.

    llmkit doctor
    """
    from llmkit.report.doctor.check import run_doctor_checks

    if not console.can_print():
        # Of several processes only the main one prints, and it may not exist.
        what = "RANK and WORLD_SIZE mark this as one of several processes"
        error = UsageError(what, "unset RANK WORLD_SIZE, then run it again")
        console.print_error(str(error))
        raise typer.Exit(error.exit_code)
    columns = shutil.get_terminal_size().columns if console.is_stdout_terminal() else 10_000
    findings = []
    for one in run_doctor_checks():
        findings.append(one)
        if not as_json:
            console.print_result(format_finding(one, columns))
    faults = [one.what for one in findings if one.status == "fault"]
    if as_json:
        notes = sum(one.status == "note" for one in findings)
        record = {"schema": 1, "faults": len(faults), "notes": notes, "findings": [asdict(one) for one in findings]}
        console.print_json(record)
    else:
        console.print_result("\n" + format_verdict(faults))
    if faults:
        raise typer.Exit(CONFIG_ERROR_EXIT_CODE)


def format_finding(one: Finding, columns: int) -> str:
    """A finding in lines of at most `columns`, the fix below the detail; a long path is not broken."""
    lines = wrap_text(f"{one.status:<6}{one.what:<{FINDING_INDENT - 7}} ", one.detail, columns)
    return "\n".join(lines + (wrap_text(" " * FINDING_INDENT + "fix: ", one.fix, columns) if one.fix else []))


def wrap_text(prefix: str, text: str, columns: int) -> list[str]:
    """The lines of a text, the first one after `prefix` and the others indented by its length."""
    width = max(columns, len(prefix) + 20)
    return textwrap.wrap(
        sanitize_text(text), width, initial_indent=prefix, subsequent_indent=" " * len(prefix),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def format_verdict(faults: list[str]) -> str:
    """The last line: the subjects of the faults, or that nothing stops a run."""
    if not faults:
        return "Nothing here stops a run."
    return f"What stops a run: {', '.join(dict.fromkeys(faults))}."


def add_doctor_command(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor_command)
