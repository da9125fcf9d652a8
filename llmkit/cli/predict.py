"""The command `predict`: predictions of a trained model for texts or a file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.cli.model_options import (
    AdapterBaseOption,
    BatchSizeOption,
    EvaluateDebugOption,
    ModelArgument,
    PrecisionOption,
    TaskOption,
    TextColumnOption,
    TextPairColumnOption,
    build_text_pair_key,
)
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

DATA_KEY = re.compile(r"data\.[a-z_.]+=")
MAX_SOURCE_LENGTH = 70  # characters of a source above its answer
MAX_FILE_NAME_BYTES = 255  # bytes of a file's name


def predict_command(
    model: ModelArgument,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to answer; without any, lines of stdin. With --data: data.KEY=VALUE, how it is read.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A file of rows to answer; its columns are kept.")] = None,
    text: TextColumnOption = None,
    text_pair: TextPairColumnOption = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file to write the JSON lines to.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the likeliest to give. Default: 5 for each mask; for labels all."),
    ] = None,
    batch_size: BatchSizeOption = None,
    precision: PrecisionOption = None,
    base: AdapterBaseOption = None,
    task: TaskOption = None,
    debug: EvaluateDebugOption = False,  # noqa: ARG001
) -> None:
    """Answer texts with a trained model.

    A table on a terminal, JSON lines elsewhere. A masked language model fills in what [MASK] stands for.

    llmkit predict runs/x "some text"
    """
    if text_pair and not data:
        raise UsageError("--text-pair without --data", "give the texts of a pair one after the other")
    if data and any(not DATA_KEY.match(word) for word in texts or ()):
        raise UsageError("texts and --data together", "give one of them")
    if not texts and not data and sys.stdin.isatty():
        raise UsageError("nothing to answer", 'give a text ("..."), --data FILE, or lines on stdin')
    from llmkit.data.row_errors import pluralize
    from llmkit.data.rows import format_json_line
    from llmkit.inference import predict as inference
    from llmkit.inference.load_saved import check_prediction_options, load_saved_model

    check_prediction_options(batch_size, precision)
    saved = load_saved_model(model, task, [*(texts or ()), *build_text_pair_key(text_pair)] if data else (), base=base)
    if rule := saved.task.decision_rule():
        console.print_message(rule)
    if data:
        parts: Iterable[Rows] = [inference.read_text_rows(saved, data, text)]
    elif texts:
        warn_about_files(texts)
        parts = [inference.build_text_rows(saved, texts)]
    else:
        parts = inference.read_line_batches(saved, sys.stdin.buffer)
    answer = partial(
        inference.predict_records, saved, batch_size=batch_size or 64, precision=precision or "fp32", top=top
    )
    if output is None and console.is_stdout_terminal():
        for rows in parts:
            print_predictions(list(answer(rows)), rows)
        return
    if output is None:
        for rows in parts:
            for one in answer(rows):
                console.print_json_line(format_json_line(one))
        return
    with console.show_progress("answering", sum(map(len, parts)) if isinstance(parts, list) else None) as advance:
        number = write_json_lines((one for rows in parts for one in answer(rows, advance=advance)), Path(output))
    console.print_message(f"{pluralize(number, 'answer')} in {output}")


def warn_about_files(texts: list[str]) -> None:
    """Say where a text is the name of a file: it is answered as it stands."""
    for one in texts:
        if len(one) < MAX_FILE_NAME_BYTES and Path(one).is_file():
            console.print_message(f"'{one}' is answered as a text; --data {one} reads the file")


def print_predictions(records: list[dict[str, Any]], rows: Rows) -> None:
    """Print the answers as a table: what was said, how likely, and what was read (both texts of a pair)."""
    columns = [rows.texts(word) for word in rows.column_mapping]
    if all(isinstance(one["answer"], str) and not one.keys() & {"probabilities", "masks"} for one in records):
        print_generated_texts(records, columns[0])
        return
    cells = [
        [format_prediction(one), format_probabilities(one), *(" ".join(text.split()) for text in texts)]
        for one, *texts in zip(records, *columns, strict=True)
    ]
    console.print_table(["answer", "probability", *rows.column_mapping], cells, {1})


def print_generated_texts(records: list[dict[str, Any]], sources: Sequence[str]) -> None:
    """Print answers that are texts whole, each below the beginning of what was read."""
    for one, source in zip(records, sources, strict=True):
        read = " ".join(source.split())
        console.print_result(
            f"> {read if len(read) <= MAX_SOURCE_LENGTH else read[:MAX_SOURCE_LENGTH].rstrip() + ' ...'}"
        )
        console.print_result(f"{one['answer'] or '(nothing)'}\n")


def format_prediction(one: dict[str, Any]) -> str:
    """An answer for people: labels with commas between them, numbers with four decimals, the word for a score."""
    answer = one["answer"]
    if isinstance(answer, list):
        return ", ".join(map(str, answer)) or "(none)"
    number = f"{answer:.4f}" if isinstance(answer, float) else str(answer)
    return f"{number} {one['sentiment']}" if isinstance(answer, float) and "sentiment" in one else number


def format_probabilities(one: dict[str, Any]) -> str:
    """The probability of what was said, of each label where it may be several; of the likeliest fills of each mask."""
    answer, chances = one["answer"], one.get("probabilities", {})
    if masks := one.get("masks") or (
        [chances] if isinstance(answer, str) and chances and answer not in chances else []
    ):
        return " | ".join(", ".join(f"{token} {chance:.3f}" for token, chance in mask.items()) for mask in masks)
    labels = answer if isinstance(answer, list) else [answer]
    return ", ".join(f"{chances[label]:.3f}" for label in labels if label in chances)


def write_json_lines(records: Iterable[dict[str, Any]], path: Path) -> int:
    """The number of records written as JSON lines; the file appears whole or not at all."""
    from llmkit.data.rows import format_json_line

    if path.exists():
        raise OutputError(f"{path}: exists", "name another -o FILE")
    beside, number = path.with_name(f".{path.name}.tmp"), 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for one in records:
                file.write(format_json_line(one) + "\n")
                number += 1
        beside.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name a file that can be written") from fault
    finally:
        beside.unlink(missing_ok=True)
    return number


def add_predict_command(app: typer.Typer) -> None:
    """Register the command."""
    app.command("predict")(predict_command)
