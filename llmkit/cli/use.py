"""Commands that use a model: `eval` scores it, `predict` answers with it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

KEY = re.compile(r"data\.[a-z_.]+=")
LONGEST_NAME = 255  # bytes of a file's name

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a Hugging Face folder or a Hub id.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Rows that go through the model at once. Default: 64.")]
Precision = Annotated[str | None, typer.Option(metavar="fp32|bf16", help="bf16 moves probabilities by up to 0.01.")]
TaskFile = Annotated[str | None, typer.Option("--task", help="The task, or the file of your own that defines it.")]
Text = Annotated[str | None, typer.Option(help="The column of the text.")]
Keys = Annotated[
    list[str] | None,
    typer.Argument(metavar="data.KEY=VALUE", help="How --data is read, as in a recipe.", show_default=False),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def evaluate(
    model: Model,
    keys: Keys = None,
    data: Annotated[str | None, typer.Option(help="Rows to score; default: the run's own test rows.")] = None,
    text: Text = None,
    label: Annotated[str | None, typer.Option(help="The column of the label.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A score to show; may be repeated.")] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", help="A fresh folder for metrics.json and predictions.jsonl.")
    ] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    task: TaskFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")] = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Score a run or any Hugging Face folder.

    llmkit eval runs/x --data test.jsonl
    """
    from llmkit.evaluation.evaluate import report_on
    from llmkit.inference.saved import checked_use, open_saved
    from llmkit.report.tables import show

    checked_use(batch_size, precision)
    report = report_on(
        open_saved(model, task, keys or ()), data, text, label, metric or (), batch_size, precision, output_dir
    )
    if as_json:
        console.out_json(report.as_dict())
    else:
        show(report, model)


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
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file to write the JSON lines to.")] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    task: TaskFile = None,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Answer texts with a trained model.

    A table on a terminal, JSON lines elsewhere.

    llmkit predict runs/x "some text"
    """
    if data and any(not KEY.match(word) for word in texts or ()):
        raise UsageError("texts and --data together", "give one of them")
    if not texts and not data and sys.stdin.isatty():
        raise UsageError("nothing to answer", 'give a text ("..."), --data FILE, or lines on stdin')
    from llmkit.data.rows import json_line
    from llmkit.inference import predict as inference
    from llmkit.inference.saved import checked_use, open_saved

    checked_use(batch_size, precision)
    saved = open_saved(model, task, texts or () if data else ())
    if data:
        parts: Iterable[Rows] = [inference.from_file(saved, data, text)]
    elif texts:
        warn_of_files(texts)
        parts = [inference.from_texts(texts)]
    else:
        parts = inference.from_lines(sys.stdin.buffer)
    answer = partial(inference.records, saved, batch_size=batch_size or 64, precision=precision or "fp32")
    if output is None and console.on_terminal():
        for rows in parts:
            show(list(answer(rows)), rows.column(inference.first_word(saved)))
        return
    found = (one for rows in parts for one in answer(rows))
    if output is not None:
        write(found, Path(output))
    else:
        for one in found:
            console.out_json_text(json_line(one))


def warn_of_files(texts: list[str]) -> None:
    """Say where a text is the name of a file: it is answered as it stands."""
    for one in texts:
        if len(one) < LONGEST_NAME and Path(one).is_file():
            console.note(f"'{one}' is answered as a text; --data {one} reads the file")


def show(records: list[dict[str, Any]], column: str) -> None:
    """Print the answers as a table: what was said, how likely, and the text, which stands in `column`."""
    rows = []
    for one in records:
        text = str(one.get(f"input.{column}", one.get(column, "")))
        likely = one.get("probabilities", {}).get(one["answer"])
        rows.append([str(one["answer"]), "" if likely is None else f"{likely:.3f}", " ".join(text.split())])
    console.table(["answer", "probability", "text"], rows, {1})


def write(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Write the records as JSON lines; the file appears whole or not at all."""
    from llmkit.data.rows import json_line

    if path.exists():
        raise OutputError(f"{path}: exists", "name another -o FILE")
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            for one in records:
                file.write(json_line(one) + "\n")
        beside.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name a file that can be written") from fault
    finally:
        beside.unlink(missing_ok=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("eval")(evaluate)
    app.command("predict")(predict)
