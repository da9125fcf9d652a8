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
from llmkit.cli.model_options import Base, Batch, Debug, Model, Precision, TaskFile, Text, TextPair, second_text
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

KEY = re.compile(r"data\.[a-z_.]+=")
BEGINNING = 70  # characters of a source above its answer
LONGEST_NAME = 255  # bytes of a file's name


def predict(
    model: Model,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to answer; without any, lines of stdin. With --data: data.KEY=VALUE, how it is read.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A file of rows to answer; its columns are kept.")] = None,
    text: Text = None,
    text_pair: TextPair = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file to write the JSON lines to.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the likeliest to give. Default: 5 for each mask; for labels all."),
    ] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    base: Base = None,
    task: TaskFile = None,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Answer texts with a trained model.

    A table on a terminal, JSON lines elsewhere. A masked language model fills in what [MASK] stands for.

    llmkit predict runs/x "some text"
    """
    if text_pair and not data:
        raise UsageError("--text-pair without --data", "give the texts of a pair one after the other")
    if data and any(not KEY.match(word) for word in texts or ()):
        raise UsageError("texts and --data together", "give one of them")
    if not texts and not data and sys.stdin.isatty():
        raise UsageError("nothing to answer", 'give a text ("..."), --data FILE, or lines on stdin')
    from llmkit.data.row_errors import counted
    from llmkit.data.rows import json_line
    from llmkit.inference import predict as inference
    from llmkit.inference.load_saved import checked_use, open_saved

    checked_use(batch_size, precision)
    saved = open_saved(model, task, [*(texts or ()), *second_text(text_pair)] if data else (), base=base)
    if rule := saved.task.rule():
        console.note(rule)
    if data:
        parts: Iterable[Rows] = [inference.from_file(saved, data, text)]
    elif texts:
        warn_of_files(texts)
        parts = [inference.from_texts(saved, texts)]
    else:
        parts = inference.from_lines(saved, sys.stdin.buffer)
    answer = partial(inference.records, saved, batch_size=batch_size or 64, precision=precision or "fp32", top=top)
    if output is None and console.on_terminal():
        for rows in parts:
            show(list(answer(rows)), rows)
        return
    if output is None:
        for rows in parts:
            for one in answer(rows):
                console.out_json_text(json_line(one))
        return
    with console.progress("answering", sum(map(len, parts)) if isinstance(parts, list) else None) as advance:
        number = write((one for rows in parts for one in answer(rows, advance=advance)), Path(output))
    console.note(f"{counted(number, 'answer')} in {output}")


def warn_of_files(texts: list[str]) -> None:
    """Say where a text is the name of a file: it is answered as it stands."""
    for one in texts:
        if len(one) < LONGEST_NAME and Path(one).is_file():
            console.note(f"'{one}' is answered as a text; --data {one} reads the file")


def show(records: list[dict[str, Any]], rows: Rows) -> None:
    """Print the answers as a table: what was said, how likely, and what was read (both texts of a pair)."""
    columns = [rows.texts(word) for word in rows.words]
    if all(isinstance(one["answer"], str) and not one.keys() & {"probabilities", "masks"} for one in records):
        show_texts(records, columns[0])
        return
    cells = [
        [said(one), likely(one), *(" ".join(text.split()) for text in texts)]
        for one, *texts in zip(records, *columns, strict=True)
    ]
    console.table(["answer", "probability", *rows.words], cells, {1})


def show_texts(records: list[dict[str, Any]], sources: Sequence[str]) -> None:
    """Print answers that are texts whole, each below the beginning of what was read."""
    for one, source in zip(records, sources, strict=True):
        read = " ".join(source.split())
        console.out(f"> {read if len(read) <= BEGINNING else read[:BEGINNING].rstrip() + ' ...'}")
        console.out(f"{one['answer'] or '(nothing)'}\n")


def said(one: dict[str, Any]) -> str:
    """An answer for people: labels with commas between them, numbers with four decimals, the word for a score."""
    answer = one["answer"]
    if isinstance(answer, list):
        return ", ".join(map(str, answer)) or "(none)"
    number = f"{answer:.4f}" if isinstance(answer, float) else str(answer)
    return f"{number} {one['sentiment']}" if isinstance(answer, float) and "sentiment" in one else number


def likely(one: dict[str, Any]) -> str:
    """The probability of what was said, of each label where it may be several; of the likeliest fills of each mask."""
    answer, chances = one["answer"], one.get("probabilities", {})
    if masks := one.get("masks") or (
        [chances] if isinstance(answer, str) and chances and answer not in chances else []
    ):
        return " | ".join(", ".join(f"{token} {chance:.3f}" for token, chance in mask.items()) for mask in masks)
    labels = answer if isinstance(answer, list) else [answer]
    return ", ".join(f"{chances[label]:.3f}" for label in labels if label in chances)


def write(records: Iterable[dict[str, Any]], path: Path) -> int:
    """The number of records written as JSON lines; the file appears whole or not at all."""
    from llmkit.data.rows import json_line

    if path.exists():
        raise OutputError(f"{path}: exists", "name another -o FILE")
    beside, number = path.with_name(f".{path.name}.tmp"), 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for one in records:
                file.write(json_line(one) + "\n")
                number += 1
        beside.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name a file that can be written") from fault
    finally:
        beside.unlink(missing_ok=True)
    return number


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("predict")(predict)
