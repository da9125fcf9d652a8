"""The options of the commands that use a trained model."""

from __future__ import annotations

import json
from typing import Annotated

import typer

ModelArgument = Annotated[str, typer.Argument(metavar="MODEL", help="A run folder, a Hugging Face folder or a Hub id.")]
BatchSizeOption = Annotated[int | None, typer.Option(min=1, help="Rows in a batch. Default: 64.")]
PrecisionOption = Annotated[
    str | None, typer.Option(metavar="fp32|bf16", help="bf16 changes probabilities by up to 0.01.")
]
TaskOption = Annotated[str | None, typer.Option("--task", help="The task, or your own file that defines it.")]
AdapterBaseOption = Annotated[
    str | None, typer.Option(metavar="FOLDER", help="The base model of an adapter, if it has moved.")
]
TextColumnOption = Annotated[str | None, typer.Option("--text", "--source", help="The column of the text.")]
TextPairColumnOption = Annotated[str | None, typer.Option(help="The column of the second text, if rows are pairs.")]


def build_text_pair_key(column: str | None) -> list[str]:
    """The recipe key that --text-pair sets."""
    return [] if column is None else [f"data.columns.text_pair={json.dumps(column)}"]
