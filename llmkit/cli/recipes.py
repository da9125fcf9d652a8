"""Commands about the recipes that ship with llmkit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmkit import console

app = typer.Typer(help="List, show and copy the recipes that ship with llmkit.", rich_markup_mode=None)
Name = Annotated[str, typer.Argument(help="A shipped recipe's name, such as classify/bbc-headlines.")]


@app.callback(invoke_without_command=True)
def recipes(context: typer.Context) -> None:
    """List, show and copy the recipes that ship with llmkit."""
    if context.invoked_subcommand is None:
        console.out(context.get_help())


@app.command("list")
def list_() -> None:
    """Name every shipped recipe and what it is."""
    from llmkit.recipe import catalog

    console.table(["recipe", "what it is"], list(catalog.listed().items()))


@app.command()
def show(name: Name) -> None:
    """Print a recipe."""
    from llmkit.recipe import catalog

    console.out(catalog.find(name).read_text(encoding="utf-8").rstrip("\n"))


@app.command()
def copy(
    name: Name,
    target: Annotated[Path, typer.Argument(help="The file to make, or a folder.")] = Path(),
) -> None:
    """Copy a recipe, to change it."""
    from llmkit.recipe import catalog

    made = catalog.copy(name, target)
    console.out(f"{made}\nRun it: llmkit train {shlex.quote(str(made))}")
