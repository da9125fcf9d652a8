"""Commands that use a model: `eval` scores it, `predict` answers with it."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a Hugging Face folder or a Hub id.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Rows that go through the model at once. Default: 64.")]
Precision = Annotated[str | None, typer.Option(metavar="fp32|bf16", help="bf16 moves probabilities by up to 0.01.")]
TaskFile = Annotated[str | None, typer.Option("--task", help="The task, or the file of your own that defines it.")]
Text = Annotated[str | None, typer.Option(help="The column of the text.")]
Keys = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="data.KEY=VALUE", help="How --data is read, as in a recipe; may be repeated."),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def evaluate(
    model: Model,
    data: Annotated[str | None, typer.Option(help="Rows to score; default: the run's own test rows.")] = None,
    text: Text = None,
    label: Annotated[str | None, typer.Option(help="The column of the label.")] = None,
    metric: Annotated[list[str] | None, typer.Option(help="A score to show; may be repeated.")] = None,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", help="A fresh folder for metrics.json and predictions.jsonl.")
    ] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    keys: Keys = None,
    task: TaskFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")] = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Score a run or any Hugging Face folder.

    llmkit eval runs/x --data test.jsonl
    """
    checked_precision(precision)
    from llmkit.evaluation.evaluate import report_on
    from llmkit.inference.saved import open_saved
    from llmkit.report.tables import show

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
        list[str] | None, typer.Argument(help="Texts to answer; without any, and without --data, lines of stdin.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="A file of rows to answer; its columns are kept.")] = None,
    text: Text = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file to write the JSON lines to.")] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    keys: Keys = None,
    task: TaskFile = None,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Answer texts with a trained model.

    A table on a terminal, JSON lines elsewhere.

    llmkit predict runs/x "some text"
    """
    checked_precision(precision)
    if texts and data:
        raise UsageError("texts and --data together", "give one of them")
    if not texts and not data and sys.stdin.isatty():
        raise UsageError("nothing to answer", 'give a text ("..."), --data FILE, or lines on stdin')
    from llmkit.inference import predict as inference
    from llmkit.inference.saved import open_saved

    saved = open_saved(model, task, keys or ())
    if texts:
        parts: Iterable[Rows] = [inference.from_texts(texts)]
    elif data:
        parts = [inference.from_file(saved, data, text)]
    else:
        parts = inference.from_lines(sys.stdin.buffer)
    found = (one for rows in parts for one in inference.records(saved, rows, batch_size or 64, precision or "fp32"))
    if output is not None:
        write(found, Path(output))
    elif console.on_terminal():
        show(list(found))
    else:
        for one in found:
            console.out_json(one)


def checked_precision(precision: str | None) -> None:
    """Raise UsageError for a precision that scores cannot be in."""
    if precision not in (None, "fp32", "bf16"):
        raise UsageError(f"--precision {precision}: unknown", "write fp32 or bf16")


def show(records: list[dict[str, Any]]) -> None:
    """Print the answers as a table: the text, what was said of it, and how likely."""
    rows = []
    for one in records:
        text = next((str(value) for key, value in one.items() if key not in ("answer", "probabilities")), "")
        likely = one.get("probabilities", {}).get(one["answer"])
        rows.append([str(one["answer"]), "" if likely is None else f"{likely:.3f}", " ".join(text.split())])
    console.table(["answer", "probability", "text"], rows, {1})


def write(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Write the records as JSON lines; the file appears whole or not at all."""
    if path.exists():
        raise OutputError(f"{path}: exists", "name another -o FILE")
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with beside.open("w", encoding="utf-8") as file:
            for one in records:
                file.write(json.dumps(one, ensure_ascii=False, allow_nan=False) + "\n")
        beside.replace(path)
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name a file that can be written") from fault
    finally:
        beside.unlink(missing_ok=True)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("eval")(evaluate)
    app.command("predict")(predict)
