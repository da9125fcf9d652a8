"""The options that commands share which use a trained model."""

from __future__ import annotations

import json
from typing import Annotated

import typer

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a Hugging Face folder or a Hub id.")]
BatchSizeOption = Annotated[
    int | None, typer.Option(min=1, help="Rows that go through the model at once. Default: 64.")
]
PrecisionOption = Annotated[
    str | None, typer.Option(metavar="fp32|bf16", help="bf16 moves probabilities by up to 0.01.")
]
TaskOption = Annotated[str | None, typer.Option("--task", help="The task, or the file of your own that defines it.")]
AdapterBaseOption = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="The base of an adapter, where it is not where it was.")
]
TextColumnOption = Annotated[str | None, typer.Option("--text", "--source", help="The column of the text.")]
TextPairColumnOption = Annotated[str | None, typer.Option(help="The column of the second text, where rows are pairs.")]
EvaluateDebugOption = Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")]


def build_text_pair_key(column: str | None) -> list[str]:
    """The key that --text-pair is short for."""
    return [] if column is None else [f"data.columns.text_pair={json.dumps(column)}"]
