"""What a command that trains does with its options: train here, or on several processes, or say what it would take."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from llmkit import console
from llmkit.errors import UsageError

if TYPE_CHECKING:
    from llmkit.runs.launch_env import ProcessGrid
    from llmkit.schema import Recipe


def run_training_command(
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
    from llmkit.runs.launch_env import ProcessGrid
    from llmkit.training.processes import signals

    places = ProcessGrid(processes, machines, rank, main_address)
    with signals.exit_on_signal():
        several = should_launch_processes(places, dry_run)
        if not several:
            distributed.join_processes()  # before anything can be wrong: what is, is said once
        recipe = load_requested_recipe(task, words or [], resume, flags)
        if several:
            going_on = [] if resume is None else ["--resume", resume]
            going_on += [word for key in allow_change or () for word in ("--allow-change", key)]
            launch_and_exit(
                recipe, places, [*going_on, *(flag for flag, on in (("--json", as_json), ("--debug", debug)) if on)]
            )
        elif dry_run:
            dry_run_and_print(recipe, as_json)
        else:
            train_and_print(recipe, resume, allow_change or [], as_json)
            distributed.leave_processes()


def load_requested_recipe(task: str | None, words: list[str], resume: str | None, flags: dict[str, Any]) -> Recipe:
    """The recipe of the command line; that of the run to resume, where nothing else is said."""
    from llmkit.recipe.load import load_recipe

    if resume is not None and not words and not any(value is not None for value in flags.values()):
        from llmkit.training.checkpoints.resume import load_run_recipe, parse_resume_path

        return load_run_recipe(parse_resume_path(resume)[0])
    recipe, overrides = split_recipe_arguments(words)
    return load_recipe(recipe, overrides, task=task, **flags)


def should_launch_processes(places: ProcessGrid, dry_run: bool) -> bool:
    """Whether this process is to start others."""
    several = places.should_launch()
    if several and dry_run:
        what = "--dry-run measures one process, and --processes asks for several"
        raise UsageError(what, "leave one of them out")
    return several


def launch_and_exit(recipe: Recipe, places: ProcessGrid, flags: list[str]) -> None:
    """Run the recipe on several processes, and leave with their exit code."""
    from llmkit.training.processes.launch import launch_processes

    if code := launch_processes(recipe, places, flags):
        raise typer.Exit(code)


def train_and_print(recipe: Recipe, resume: str | None, allow_change: list[str], as_json: bool) -> None:
    """Train in this process, and print what came of it."""
    from llmkit import tasks
    from llmkit.report.tables import print_report
    from llmkit.training.run import train

    run = train(recipe, resume=resume, allow_change=allow_change)
    if as_json:
        console.print_json({"run": str(run.path)} | run.scores())
        return
    if run.report:
        print_report(run.report, "this run")
    console.print_result(f"\nThe model is in {run.path / 'model'}. Next:")
    for line in tasks.load_task(recipe.task).next_commands:
        console.print_result(f"  llmkit {line.replace('{run}', shlex.quote(str(run.path)))}")


def dry_run_and_print(recipe: Recipe, as_json: bool) -> None:
    """Measure and print what the run would do and take."""
    from llmkit.report.dry_run import print_dry_run
    from llmkit.training.dry_run import dry_run

    found = dry_run(recipe)
    if as_json:
        console.print_json(found.as_dict())
    else:
        print_dry_run(found)
        console.print_result("Nothing was kept. The same command without --dry-run runs it.")


def split_recipe_arguments(words: list[str]) -> tuple[str | None, list[str]]:
    """The recipe's name, where the first word is no KEY=VALUE, and the overrides."""
    if words and ("=" not in words[0] or Path(words[0]).is_file()):
        return words[0], words[1:]
    return None, words
