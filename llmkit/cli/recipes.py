"""The commands `recipes list`, `show` and `copy`."""

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
    """List every shipped recipe with a description."""
    from llmkit.recipe import catalog

    console.print_table(["recipe", "what it is"], list(catalog.list_recipes().items()))


@recipes_app.command("show")
def show_recipe_command(name: RecipeNameArgument) -> None:
    """Print a recipe."""
    from llmkit.recipe import catalog

    console.print_result(catalog.find_recipe(name).read_text(encoding="utf-8").rstrip("\n"))


@recipes_app.command("copy")
def copy_recipe_command(
    name: RecipeNameArgument,
    target: Annotated[Path, typer.Argument(help="The file to create, or a folder.")] = Path(),
) -> None:
    """Copy a recipe, to change it."""
    from llmkit.recipe import catalog

    copied = catalog.copy_recipe(name, target)
    console.print_result(f"{copied}\nRun it: llmkit train {shlex.quote(str(copied))}")
