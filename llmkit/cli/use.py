"""Commands that use a model: `eval` scores it, `predict` answers with it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llmkit import console
from llmkit.errors import OutputError, UsageError

if TYPE_CHECKING:
    from llmkit.data.rows import Rows

KEY = re.compile(r"data\.[a-z_.]+=")
ANY_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)+=")  # also one that may not be set here: it is no model
BEGINNING = 70  # characters of a source above its answer
LONGEST_NAME = 255  # bytes of a file's name

Model = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a Hugging Face folder or a Hub id.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Rows that go through the model at once. Default: 64.")]
Precision = Annotated[str | None, typer.Option(metavar="fp32|bf16", help="bf16 moves probabilities by up to 0.01.")]
TaskFile = Annotated[str | None, typer.Option("--task", help="The task, or the file of your own that defines it.")]
Base = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="The base of an adapter, where it is not where it was.")
]
Text = Annotated[str | None, typer.Option("--text", "--source", help="The column of the text.")]
TextPair = Annotated[str | None, typer.Option(help="The column of the second text, where rows are pairs.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def evaluate(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A run folder, a Hugging Face folder or a Hub id; several are compared. Then data.KEY=VALUE, how "
            "--data is read, as in a recipe.",
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Rows to score; default: the (first) run's own test rows.")] = None,
    text: Text = None,
    text_pair: TextPair = None,
    label: Annotated[
        str | None,
        typer.Option("--label", "--summary", "--target", help="The column of the label, summary or translation."),
    ] = None,
    label_map: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA=MODEL", help="Which label of the model a label of the data means; repeatable."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="A score to show, or evaluate:NAME of the evaluate library (runs its code); repeatable."),
    ] = None,
    per_label: Annotated[bool, typer.Option("--per-label", help="Show the scores of each label too.")] = False,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", help="A fresh folder for metrics.json and predictions.jsonl.")
    ] = None,
    batch_size: Batch = None,
    precision: Precision = None,
    base: Base = None,
    task: TaskFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json to stdout instead of a table.")] = False,
    debug: Debug = False,  # noqa: ARG001
) -> None:
    """Score a run or any Hugging Face folder, or compare several on the same rows.

    llmkit eval runs/x --data test.jsonl
    """
    models, keys = divided(words)
    keys += second_text(text_pair)
    from llmkit.evaluation.compare import comparison
    from llmkit.evaluation.evaluate import Request, report_on
    from llmkit.report import tables

    asked = Request(data, text, label, metric or (), batch_size, precision, task, keys, label_map or (), per_label,
                    base)  # fmt: skip
    if len(models) > 1:
        compared = comparison(models, asked, output_dir)
        if as_json:
            console.out_json(compared.as_dict())
        else:
            tables.show_comparison(compared)
        return
    report = report_on(models[0], asked, output_dir)
    if as_json:
        console.out_json(report.as_dict())
    else:
        tables.show(report, models[0])


def second_text(column: str | None) -> list[str]:
    """The key that --text-pair is short for."""
    return [] if column is None else [f"data.columns.text_pair={json.dumps(column)}"]


def divided(words: list[str]) -> tuple[list[str], list[str]]:
    """The models, and the KEY=VALUE texts."""
    keys = [word for word in words if ANY_KEY.match(word) and not Path(word).exists()]
    models = [word for word in words if word not in keys]
    if not models:
        raise UsageError("no model is named", "write it before the keys: llmkit eval MODEL")
    for model in models:
        if Path(model).is_file():
            raise UsageError(f"{model}: a file, not a model", f"to score its rows write --data {model}")
    return models, keys


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
    from llmkit.data.faults import counted
    from llmkit.data.rows import json_line
    from llmkit.inference import predict as inference
    from llmkit.inference.saved import checked_use, open_saved

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
    """Register the commands."""
    app.command("eval")(evaluate)
    app.command("predict")(predict)
