"""The command line: parse, call one function, print. Here the one boundary that turns mistakes into sentences."""

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
evaluate.add_to(llmkit_app)
predict.add_predict_command(llmkit_app)
doctor.add_doctor_command(llmkit_app)
llmkit_app.add_typer(recipes.recipes_app, name="recipes")
llmkit_app.add_typer(tokenizer.tokenizer_app, name="tokenizer")
llmkit_app.add_typer(data.data_app, name="data")
llmkit_app.add_typer(launch.launch_app, name="launch")


def print_version(wanted: bool) -> None:
    if wanted:
        from llmkit.version import __version__

        console.print_result(f"llmkit {__version__}")
        raise typer.Exit


@llmkit_app.callback(invoke_without_command=True)
def llmkit_command(
    context: typer.Context,
    _: bool = typer.Option(
        False, "--version", help="Show the version and leave.", callback=print_version, is_eager=True
    ),
) -> None:
    """From a file of text to a model that you can trust.

    The shortest way in: llmkit finetune-classify --train reviews.csv
    """
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


def main(words: list[str] | None = None) -> NoReturn:
    """Run one command and leave with its exit code (sysexits; 130 for Ctrl-C)."""
    words = sys.argv[1:] if words is None else words
    limit_openmp_spinning()
    # A stream that was closed before we started is None: what would go there goes nowhere.
    streams: Any = sys
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(streams, name, null_stream(mode))
    if any(not is_valid_unicode(word) for word in words):
        console.print_error("an argument is not UTF-8; write it in the terminal's encoding")
        sys.exit(64)
    sys.exit(run_command_line(words, debug="--debug" in words))


def run_command_line(words: list[str], debug: bool = False) -> int:
    """The exit code of one command. With `debug` a mistake comes with its traceback."""
    try:
        code = llmkit_app(args=words, prog_name="llmkit", standalone_mode=False)
        if code == 130:  # Typer has turned Ctrl-C into its exit code already
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0
    except SystemExit as leave:
        return int(leave.code or 0)
    except BaseException as fault:
        if debug:
            import traceback

            traceback.print_exc()
        sentence, code = explain_error(fault)
        shown = distributed.claim_error_output(sentence, code)
        if shown is not None:
            first, *more = sentence.split("\n")
            console.print_error("\n".join([first if code in distributed.SIGNAL_EXIT_CODES else first + shown, *more]))
        return code


def limit_openmp_spinning() -> None:
    """Let torch's threads give their core away soon when they wait, unless the environment says otherwise.

    libgomp's threads spin 300,000 rounds for the next piece of work: on a machine that others use too that is most of
    the CPU time, and none of it is work. It reads the variable when torch loads it.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "5000")


def null_stream(mode: str) -> IO[str]:
    """A stream that takes everything and gives nothing."""
    return open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123 - it lives as long as the process


def is_valid_unicode(word: str) -> bool:
    """Whether `word` is text: bytes that were not come as lone surrogates."""
    return not any("\ud800" <= char <= "\udfff" for char in word)


def explain_error(fault: BaseException) -> tuple[str, int]:
    """What to say of an exception, and the exit code: whatever happens, a sentence."""
    if isinstance(fault, LlmkitError):
        return str(fault), fault.exit_code
    if isinstance(fault, RunInterrupted):
        return str(fault), fault.exit_code
    if isinstance(fault, typer.TyperException):
        return explain_usage_error(fault.format_message()), 64
    if isinstance(fault, (KeyboardInterrupt, typer.Abort)):
        return "interrupted", 130
    if is_out_of_memory(fault):
        return "out of memory; lower train.per_device_train_batch_size or model.max_length", 71
    if isinstance(fault, OSError) and fault.errno == errno.ENOSPC:
        return f"{fault.filename or 'disk'}: no space left; free some and run again", 74
    if isinstance(fault, Exception):
        where, mend = locate_error(fault)
        return f"{where}: {type(fault).__name__}: {fault}; run it with --debug {mend}", 70
    raise fault


def locate_error(fault: Exception) -> tuple[str, str]:
    """Whose code raised, llmkit's or the user's task file, and what to do about it: what they call is not to blame."""
    from llmkit.tasks import USER_TASK_MODULE_PREFIX

    places = [(frame.f_globals.get("__name__", ""), frame, line) for frame, line in walk_tb(fault.__traceback__)]
    name, frame, line = next((one for one in reversed(places) if one[0].startswith("llmkit")), ("", None, 0))
    if frame is None or not name.startswith(USER_TASK_MODULE_PREFIX):
        return "a fault in llmkit", "and report what it shows"
    file = min(frame.f_code.co_filename, os.path.relpath(frame.f_code.co_filename), key=len)
    return f"{file}, line {line}, in {frame.f_code.co_name}", "to see how it came there"


def explain_usage_error(message: str) -> str:
    """What is wrong with a command line and what mends it: a recipe key that was written as a flag is said as a key."""
    message = message.removesuffix(".")
    if flag := re.match(r"No such option: --([a-z_-]+)", message):
        from llmkit.recipe.validation_messages import find_key_of_flag

        if key := find_key_of_flag(flag[1]):  # better than the options that look like it
            return f"{flag[0]}; write {key}=VALUE"
    return f"{message}; `llmkit COMMAND --help` shows how"
