"""The command line: parses the arguments, calls one function, and turns every error into a message and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
from traceback import walk_tb
from typing import IO, Any, NoReturn

import typer

from llmkit import console
from llmkit.cli import data, doctor, evaluate, launch, predict, recipes, tokenizer, train
from llmkit.errors import LlmkitError, RunInterrupted, is_out_of_memory
from llmkit.runs import distributed

llmkit_app = typer.Typer(
    name="llmkit",
    help="From a file of text to a model that you can trust.",
    rich_markup_mode=None,  # rich costs a plain --help more time than all the rest
    add_completion=False,
    pretty_exceptions_enable=False,
)
train.add_training_commands(llmkit_app)
evaluate.add_evaluate_command(llmkit_app)
predict.add_predict_command(llmkit_app)
doctor.add_doctor_command(llmkit_app)
llmkit_app.add_typer(recipes.recipes_app, name="recipes")
llmkit_app.add_typer(tokenizer.tokenizer_app, name="tokenizer")
llmkit_app.add_typer(data.data_app, name="data")
llmkit_app.add_typer(launch.launch_app, name="launch")


def print_version(requested: bool) -> None:
    """Print the version and exit, if requested."""
    if requested:
        from llmkit.version import __version__

        console.print_result(f"llmkit {__version__}")
        raise typer.Exit


@llmkit_app.callback(invoke_without_command=True)
def llmkit_command(
    context: typer.Context,
    _: bool = typer.Option(
        False, "--version", help="Show the version and exit.", callback=print_version, is_eager=True
    ),
) -> None:
    """From a file of text to a model that you can trust.

    Quick start: llmkit finetune-classify --train reviews.csv
    """
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code (sysexits; 130 for Ctrl-C)."""
    arguments = sys.argv[1:] if arguments is None else arguments
    limit_openmp_spinning()
    # A stream that was closed before llmkit started is None.
    streams: Any = sys
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(streams, name, null_stream(mode))
    if any(not is_valid_unicode(word) for word in arguments):
        console.print_error("an argument is not UTF-8; write it in the terminal's encoding")
        sys.exit(64)
    sys.exit(run_command_line(arguments, debug="--debug" in arguments))


def run_command_line(arguments: list[str], debug: bool = False) -> int:
    """Run one command; returns its exit code. With `debug` an error is printed with its traceback."""
    try:
        code = llmkit_app(args=arguments, prog_name="llmkit", standalone_mode=False)
        if code == 130:  # Typer has turned Ctrl-C into its exit code already
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as leave:
        return int(leave.code or 0)
    except BaseException as error:
        if debug:
            import traceback

            traceback.print_exc()
        message, code = explain_error(error)
        suffix = distributed.claim_error_output(message, code)
        if suffix is not None:
            first, *more = message.split("\n")
            first += "" if code in distributed.SIGNAL_EXIT_CODES else suffix
            console.print_error("\n".join([first, *more]))
        return code


def limit_openmp_spinning() -> None:
    """Let waiting OpenMP threads of torch release their core soon, unless the environment sets OMP_WAIT_POLICY.

    libgomp's threads spin 300,000 rounds for the next piece of work: on a machine that other processes use too this is
    most of the CPU time, and none of it is work. It reads the variable when torch loads it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def null_stream(mode: str) -> IO[str]:
    """An open stream on the null device."""
    return open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123 - it lives as long as the process


def is_valid_unicode(word: str) -> bool:
    """Whether `word` was valid UTF-8; other bytes arrive as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def explain_error(error: BaseException) -> tuple[str, int]:
    """The message and the exit code for any exception. SystemExit and its like are raised again."""
    if isinstance(error, LlmkitError):
        return str(error), error.exit_code
    if isinstance(error, RunInterrupted):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        return explain_usage_error(error.format_message()), 64
    if isinstance(error, (KeyboardInterrupt, typer.Abort)):
        return "interrupted", 130
    if is_out_of_memory(error):
        return "out of memory; lower train.max_tokens_per_pass or model.max_length", 71
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"{error.filename or 'disk'}: no space left; free some and run again", 74
    if isinstance(error, Exception):
        where, fix = locate_error(error)
        return f"{where}: {type(error).__name__}: {error}; run it with --debug {fix}", 70
    raise error


def locate_error(error: Exception) -> tuple[str, str]:
    """Where the error was raised, in llmkit or the user's task file (not in libraries they call), and the fix."""
    from llmkit.tasks import USER_TASK_MODULE_PREFIX

    places = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in walk_tb(error.__traceback__)]
    name, frame, line = next((one for one in reversed(places) if one[0].startswith("llmkit")), ("", None, 0))
    if frame is None or not name.startswith(USER_TASK_MODULE_PREFIX):
        return "internal error in llmkit", "and report the traceback"
    file = min(frame.f_code.co_filename, os.path.relpath(frame.f_code.co_filename), key=len)
    return f"{file}, line {line}, in {frame.f_code.co_name}", "to see the traceback"


def explain_usage_error(message: str) -> str:
    """Typer's message with a fix; for a recipe key that was written as a flag, the key."""
    message = message.removesuffix(".")
    if flag := re.match(r"No such option: --([a-z_-]+)", message):
        from llmkit.recipe.validation_messages import find_key_of_flag

        if key := find_key_of_flag(flag[1]):  # better than Typer's suggestion of similar options
            return f"{flag[0]}; write {key}=VALUE"
    return f"{message}; `llmkit COMMAND --help` shows how"
