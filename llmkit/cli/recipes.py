"""Commands about the recipes that ship with llmkit."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from llmkit import console

recipes_app = typer.Typer(help="List, show and copy the recipes that ship with llmkit.", rich_markup_mode=None)
RecipeNameArgument = Annotated[str, typer.Argument(help="A shipped recipe's name, such as classify/bbc-headlines.")]


@recipes_app.callback(invoke_without_command=True)
def recipes_group(context: typer.Context) -> None:
    """List, show and copy the recipes that ship with llmkit."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@recipes_app.command("list")
def list_recipes_command() -> None:
    """Name every shipped recipe and what it is."""
    from llmkit.recipe import catalog

    console.print_table(["recipe", "what it is"], list(catalog.list_recipes().items()))


@recipes_app.command()
def show_recipe_command(name: RecipeNameArgument) -> None:
    """Print a recipe."""
    from llmkit.recipe import catalog

    console.print_result(catalog.find_recipe(name).read_text(encoding="utf-8").rstrip("\n"))


@recipes_app.command()
def copy_recipe_command(
    name: RecipeNameArgument,
    target: Annotated[Path, typer.Argument(help="The file to make, or a folder.")] = Path(),
) -> None:
    """Copy a recipe, to change it."""
    from llmkit.recipe import catalog

    made = catalog.copy_recipe(name, target)
    console.print_result(f"{made}\nRun it: llmkit train {shlex.quote(str(made))}")
