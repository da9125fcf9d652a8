"""The command `eval`: scores a model, or compares several on the same rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from llmkit import console
from llmkit.cli.model_options import (
    AdapterBaseOption,
    BatchSizeOption,
    PrecisionOption,
    TaskOption,
    TextColumnOption,
    TextPairColumnOption,
    build_text_pair_key,
)
from llmkit.cli.options import DebugOption, JsonOption
from llmkit.errors import UsageError

RECIPE_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)+=")  # also a key that cannot be set here: it is not a model


def evaluate_command(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...",
            help="A run folder, a Hugging Face folder or a Hub id; several are compared. Then recipe keys for reading "
            "--data: data.KEY=VALUE.",
        ),
    ],
    data: Annotated[str | None, typer.Option(help="Rows to score. Default: the test rows of the (first) run.")] = None,
    text: TextColumnOption = None,
    text_pair: TextPairColumnOption = None,
    label: Annotated[
        str | None,
        typer.Option("--label", "--summary", "--target", help="The column of the label, summary or translation."),
    ] = None,
    label_map: Annotated[
        list[str] | None,
        typer.Option(metavar="DATA=MODEL", help="The label of the model for a label of the data; repeatable."),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="A metric to compute: its name, a file ./my_metric.py with a function (references, predictions), or "
            "evaluate:NAME of the evaluate library (both run code); repeatable."
        ),
    ] = None,
    per_label: Annotated[bool, typer.Option("--per-label", help="Show the scores of each label too.")] = False,
    output_dir: Annotated[
        str | None, typer.Option("--output-dir", "-o", help="A new folder for metrics.json and predictions.jsonl.")
    ] = None,
    batch_size: BatchSizeOption = None,
    precision: PrecisionOption = None,
    base: AdapterBaseOption = None,
    task: TaskOption = None,
    as_json: JsonOption = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Score a run or any Hugging Face folder, or compare several on the same rows.

    llmkit eval runs/x --data test.jsonl
    """
    models, keys = split_models_and_keys(arguments)
    keys += build_text_pair_key(text_pair)
    from llmkit.evaluation.compare import compare_models
    from llmkit.evaluation.evaluate import EvaluationRequest, run_evaluation
    from llmkit.report import tables

    request = EvaluationRequest(data, text, label, metric or (), batch_size, precision, task, keys, label_map or (),
                                per_label, base)  # fmt: skip
    if len(models) > 1:
        compared = compare_models(models, request, output_dir)
        if as_json:
            console.print_json(compared.as_dict())
        else:
            tables.print_comparison(compared)
        return
    report = run_evaluation(models[0], request, output_dir)
    if as_json:
        console.print_json(report.as_dict())
    else:
        tables.print_report(report, models[0])


def split_models_and_keys(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The models, and the KEY=VALUE arguments. Raises UsageError where there is no model, or a file."""
    keys = [word for word in arguments if RECIPE_KEY.match(word) and not Path(word).exists()]
    models = [word for word in arguments if word not in keys]
    if not models:
        raise UsageError("no model is given", "write it before the keys: llmkit eval MODEL")
    for model in models:
        if Path(model).is_file():
            raise UsageError(f"{model}: a file, not a model", f"to score its rows write --data {model}")
    return models, keys


def add_evaluate_command(app: typer.Typer) -> None:
    """Register the command."""
    app.command("eval")(evaluate_command)
