"""The command `doctor`: look at the installation and the machine, and say what stops or changes a run."""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from llmkit import console
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.report.doctor.finding import Finding

# EX_CONFIG of sysexits, something is configured wrongly: as a recipe may be, so may an installation. 70 would call it
# a fault of llmkit, and a Hub that does not answer (69) stops no local run.
CONFIG_ERROR_EXIT_CODE = 78
FINDING_INDENT = 26  # columns of the status and of what was looked at


def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,  # noqa: ARG001
) -> None:
    """Say what on this machine stops or changes a run.

    Versions, devices, disk, the Hub and the environment. A note changes a run; a fault stops one, and the exit code
    is 78. No token and no password is shown.

    llmkit doctor
    """
    from llmkit.report.doctor.check import run_doctor_checks

    if not console.can_print():
        # Of several processes the first alone says what is wrong, and it may not be there.
        what = UsageError("one of several processes by RANK and WORLD_SIZE", "unset RANK WORLD_SIZE, then ask again")
        console.print_error(str(what))
        raise typer.Exit(what.exit_code)
    columns = shutil.get_terminal_size().columns if console.is_stdout_terminal() else 10_000
    found = []
    for one in run_doctor_checks():
        found.append(one)
        if not as_json:
            console.print_result(format_finding(one, columns))
    faults = [one.what for one in found if one.status == "fault"]
    if as_json:
        notes = sum(one.status == "note" for one in found)
        record = {"schema": 1, "faults": len(faults), "notes": notes, "findings": [asdict(one) for one in found]}
        console.print_json(record)
    else:
        console.print_result("\n" + format_verdict(faults))
    if faults:
        raise typer.Exit(CONFIG_ERROR_EXIT_CODE)


def format_finding(one: Finding, columns: int) -> str:
    """A finding in lines of at most `columns`, the mend below what was found; a long path stays in one piece."""
    lines = wrap_text(f"{one.status:<6}{one.what:<{FINDING_INDENT - 7}} ", one.detail, columns)
    return "\n".join(lines + (wrap_text(" " * FINDING_INDENT + "mend: ", one.fix, columns) if one.fix else []))


def wrap_text(begin: str, text: str, columns: int) -> list[str]:
    """The lines of a text, its first one behind `begin` and the rest below it."""
    width = max(columns, len(begin) + 20)
    return textwrap.wrap(
        console.sanitize_for_console(text), width, initial_indent=begin, subsequent_indent=" " * len(begin),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def format_verdict(faults: list[str]) -> str:
    """The last line: what stops a run, or that nothing does."""
    if not faults:
        return "Nothing here stops a run."
    return f"What stops a run: {', '.join(dict.fromkeys(faults))}."


def add_doctor_command(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor_command)
