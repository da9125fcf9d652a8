"""What a command that trains does with its options: train here, or on several processes, or say what it would take."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmkit import console
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.runs.launch_env import Places
    from llmkit.schema import Recipe


def carry_out(
    task: str | None,
    words: list[str] | None,
    resume: str | None,
    allow_change: list[str] | None,
    processes: int,
    machines: int,
    rank: int,
    main_address: str | None,
    as_json: bool,
    dry_run: bool,
    debug: bool,
    **flags: Any,
) -> None:
    """Train, print the table, and say what to type next; or with `dry_run` print the plan.

    A command hands on all of its options by their names: `flags` are those that FLAGS in recipe/load.py has. On several
    processes or machines the same command runs once for each, and this one waits.
    """
    from llmkit.runs import distributed
    from llmkit.runs.launch_env import Places
    from llmkit.training.processes import signals

    places = Places(processes, machines, rank, main_address)
    with signals.at_once():
        several = is_to_start(places, dry_run)
        if not several:
            distributed.join()  # before anything can be wrong: what is, is said once
        recipe = asked_for(task, words or [], resume, flags)
        if several:
            going_on = [] if resume is None else ["--resume", resume]
            going_on += [word for key in allow_change or () for word in ("--allow-change", key)]
            start(recipe, places, [*going_on, *(flag for flag, on in (("--json", as_json), ("--debug", debug)) if on)])
        elif dry_run:
            show_plan(recipe, as_json)
        else:
            run_and_show(recipe, resume, allow_change or [], as_json)
            distributed.leave()


def asked_for(task: str | None, words: list[str], resume: str | None, flags: dict[str, Any]) -> Recipe:
    """The recipe of the command line; that of the run to resume, where nothing else is said."""
    from llmkit.recipe.load import load_recipe

    if resume is not None and not words and not any(value is not None for value in flags.values()):
        from llmkit.training.checkpoints.resume import place_of, recipe_of

        return recipe_of(place_of(resume)[0])
    recipe, overrides = divided(words)
    return load_recipe(recipe, overrides, task=task, **flags)


def is_to_start(places: Places, dry_run: bool) -> bool:
    """Whether this process is to start others."""
    several = places.to_start()
    if several and dry_run:
        what = "--dry-run measures one process, and --processes asks for several"
        raise UsageError(what, "leave one of them out")
    return several


def start(recipe: Recipe, places: Places, flags: list[str]) -> None:
    """Run the recipe on several processes, and leave with their exit code."""
    from llmkit.training.processes.launch import start

    if code := start(recipe, places, flags):
        raise typer.Exit(code)


def run_and_show(recipe: Recipe, resume: str | None, allow_change: list[str], as_json: bool) -> None:
    """Train in this process, and print what came of it."""
    from llmkit import tasks
    from llmkit.report.tables import show
    from llmkit.training.run import train

    run = train(recipe, resume=resume, allow_change=allow_change)
    if as_json:
        console.out_json({"run": str(run.path)} | run.scores())
        return
    if run.report:
        show(run.report, "this run")
    console.out(f"\nThe model is in {run.path / 'model'}. Next:")
    for line in tasks.load(recipe.task).next_commands:
        console.out(f"  llmkit {line.replace('{run}', shlex.quote(str(run.path)))}")


def show_plan(recipe: Recipe, as_json: bool) -> None:
    """Measure and print what the run would do and take."""
    from llmkit.report.dry_run import show
    from llmkit.training.dry_run import plan

    found = plan(recipe)
    if as_json:
        console.out_json(found.as_dict())
    else:
        show(found)
        console.out("Nothing was kept. The same command without --dry-run runs it.")


def divided(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe's name, where the first word is no KEY=VALUE, and the overrides."""
    if words and ("=" not in words[0] or Path(words[0]).is_file()):
        return words[0], words[1:]
    return None, words
