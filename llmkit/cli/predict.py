"""The command `predict`: predictions of a trained model for texts, a file or lines of stdin."""

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
    ModelArgument,
    PrecisionOption,
    TaskOption,
    TextColumnOption,
    TextPairColumnOption,
    build_text_pair_key,
)
from llmkit.cli.options import DebugOption
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

DATA_KEY = re.compile(r"data\.[a-z_.]+=")
MAX_SOURCE_LENGTH = 70  # characters of a source text above its prediction
MAX_FILE_NAME_BYTES = 255  # of the usual file systems


def predict_command(
    model: ModelArgument,
    texts: Annotated[
        list[str] | None,
        typer.Argument(
            help="Texts to predict for; without any, lines of stdin. With --data: recipe keys for reading it, "
            "data.KEY=VALUE.",
            show_default=False,
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="A file of rows to predict for; its columns are kept.")] = None,
    text: TextColumnOption = None,
    text_pair: TextPairColumnOption = None,
    output: Annotated[str | None, typer.Option("--output", "-o", help="A file to write the JSON lines to.")] = None,
    top: Annotated[
        int | None,
        typer.Option(min=1, help="How many of the most probable to show. Default: 5 for each mask; all labels."),
    ] = None,
    batch_size: BatchSizeOption = None,
    precision: PrecisionOption = None,
    base: AdapterBaseOption = None,
    task: TaskOption = None,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Predict for texts with a trained model.

    Prints a table on a terminal, JSON lines elsewhere. A masked language model fills in each [MASK].

    llmkit predict runs/x "some text"
    """
    if text_pair and not data:
        raise UsageError("--text-pair without --data", "give the texts of a pair one after the other")
    if data and any(not DATA_KEY.match(word) for word in texts or ()):
        raise UsageError("texts and --data together", "give one of them")
    if not texts and not data and sys.stdin.isatty():
        raise UsageError("no texts to predict for", 'give a text ("..."), --data FILE, or lines on stdin')
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
    predict = partial(
        inference.predict_records, saved, batch_size=batch_size or 64, precision=precision or "fp32", top=top
    )
    if output is None and console.is_stdout_terminal():
        for rows in parts:
            print_predictions(list(predict(rows)), rows)
        return
    if output is None:
        for rows in parts:
            for record in predict(rows):
                console.print_json_line(format_json_line(record))
        return
    with console.show_progress("predicting", sum(map(len, parts)) if isinstance(parts, list) else None) as advance:
        records = (record for rows in parts for record in predict(rows, advance=advance))
        number = write_json_lines(records, Path(output))
    console.print_message(f"{pluralize(number, 'prediction')} in {output}")


def warn_about_files(texts: list[str]) -> None:
    """Print a message for each text that is the name of a file: it is used as a text, not read."""
    for one in texts:
        if len(one) < MAX_FILE_NAME_BYTES and Path(one).is_file():
            console.print_message(f"'{one}' is used as a text; --data {one} reads the file")


def print_predictions(records: list[dict[str, Any]], rows: Rows) -> None:
    """Print a table: the prediction, its probability, and the input text (both texts of a pair)."""
    columns = [rows.texts(word) for word in rows.column_mapping]
    if all(isinstance(one["prediction"], str) and not one.keys() & {"probabilities", "masks"} for one in records):
        print_generated_texts(records, columns[0])
        return
    cells = [
        [format_prediction(one), format_probabilities(one), *(" ".join(text.split()) for text in texts)]
        for one, *texts in zip(records, *columns, strict=True)
    ]
    console.print_table(["prediction", "probability", *rows.column_mapping], cells, {1})


def print_generated_texts(records: list[dict[str, Any]], sources: Sequence[str]) -> None:
    """Print predictions that are texts, each below the beginning of its source text."""
    for one, source in zip(records, sources, strict=True):
        text = " ".join(source.split())
        short = text if len(text) <= MAX_SOURCE_LENGTH else f"{text[:MAX_SOURCE_LENGTH].rstrip()} ..."
        console.print_result(f"> {short}")
        console.print_result(f"{one['prediction'] or '(nothing)'}\n")


def format_prediction(one: dict[str, Any]) -> str:
    """A prediction for people: labels separated by commas, numbers with four decimals, a score with its sentiment."""
    prediction = one["prediction"]
    if isinstance(prediction, list):
        return ", ".join(map(str, prediction)) or "(none)"
    number = f"{prediction:.4f}" if isinstance(prediction, float) else str(prediction)
    return f"{number} {one['sentiment']}" if isinstance(prediction, float) and "sentiment" in one else number


def format_probabilities(one: dict[str, Any]) -> str:
    """The probability of the predicted label, or of each of several; of the most probable tokens for each mask."""
    prediction, probabilities = one["prediction"], one.get("probabilities", {})
    fills_mask = isinstance(prediction, str) and probabilities and prediction not in probabilities
    if masks := one.get("masks") or ([probabilities] if fills_mask else []):
        return " | ".join(", ".join(f"{token} {p:.3f}" for token, p in mask.items()) for mask in masks)
    labels = prediction if isinstance(prediction, list) else [prediction]
    return ", ".join(f"{probabilities[label]:.3f}" for label in labels if label in probabilities)


def write_json_lines(records: Iterable[dict[str, Any]], path: Path) -> int:
    """Write the records as JSON lines atomically; returns their number. Raises OutputError."""
    from llmkit.data.rows import format_json_line

    if path.exists():
        raise OutputError(f"{path}: exists", "name another -o FILE")
    temporary, number = path.with_name(f".{path.name}.tmp"), 0
    try:
        with temporary.open("w", encoding="utf-8") as file:
            for one in records:
                file.write(format_json_line(one) + "\n")
                number += 1
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name a file that can be written") from error
    finally:
        temporary.unlink(missing_ok=True)
    return number


def add_predict_command(app: typer.Typer) -> None:
    """Register the command."""
    app.command("predict")(predict_command)
