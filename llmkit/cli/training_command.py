"""What every training command does with its options: train here, launch several processes, or do a dry run."""

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
    arguments: list[str] | None,
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
    """Train, print the score table and the next commands; or with `dry_run` print the estimate.

    A command passes all of its options by name: `flags` are those that have a recipe key (recipe/load.py). On several
    processes or machines the same command runs once for each, and this process waits for them.
    """
    from llmkit.runs import distributed
    from llmkit.runs.launch_env import ProcessGrid
    from llmkit.training.processes import signals

    grid = ProcessGrid(processes, machines, rank, main_address)
    with signals.exit_on_signal():
        launches = should_launch_processes(grid, dry_run)
        if not launches:
            distributed.join_processes()  # before any other error, so that the ranks print each error once
        recipe = load_requested_recipe(task, arguments or [], resume, flags)
        if launches:
            options = [] if resume is None else ["--resume", resume]
            options += [word for key in allow_change or () for word in ("--allow-change", key)]
            options += [flag for flag, on in (("--json", as_json), ("--debug", debug)) if on]
            launch_and_exit(recipe, grid, options)
        elif dry_run:
            dry_run_and_print(recipe, as_json)
        else:
            train_and_print(recipe, resume, allow_change or [], as_json)
            distributed.leave_processes()


def load_requested_recipe(task: str | None, arguments: list[str], resume: str | None, flags: dict[str, Any]) -> Recipe:
    """The recipe of the command line; if that has only --resume, the recipe of the run to resume."""
    from llmkit.recipe.load import load_recipe

    if resume is not None and not arguments and not any(value is not None for value in flags.values()):
        from llmkit.training.checkpoints.resume import load_run_recipe, parse_resume_path

        return load_run_recipe(parse_resume_path(resume)[0])
    recipe, overrides = split_recipe_arguments(arguments)
    return load_recipe(recipe, overrides, task=task, **flags)


def should_launch_processes(grid: ProcessGrid, dry_run: bool) -> bool:
    """Whether this process must start others. Raises UsageError where a dry run asks for several."""
    launches = grid.should_launch()
    if launches and dry_run:
        what = "--dry-run measures one process, and --processes requests several"
        raise UsageError(what, "leave one of them out")
    return launches


def launch_and_exit(recipe: Recipe, grid: ProcessGrid, options: list[str]) -> None:
    """Run the recipe on several processes, and exit with their code."""
    from llmkit.training.processes.launch import launch_processes

    if code := launch_processes(recipe, grid, options):
        raise typer.Exit(code)


def train_and_print(recipe: Recipe, resume: str | None, allow_change: list[str], as_json: bool) -> None:
    """Train in this process, and print the scores and the next commands."""
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
    """Measure a few steps of the run, and print the estimate."""
    from llmkit.report.dry_run import print_dry_run
    from llmkit.training.dry_run import dry_run

    estimate = dry_run(recipe)
    if as_json:
        console.print_json(estimate.as_dict())
    else:
        print_dry_run(estimate)
        console.print_result("Nothing was kept. The same command without --dry-run runs it.")


def split_recipe_arguments(arguments: list[str]) -> tuple[str | None, list[str]]:
    """The recipe's name, if the first argument is not KEY=VALUE, and the overrides."""
    if arguments and ("=" not in arguments[0] or Path(arguments[0]).is_file()):
        return arguments[0], arguments[1:]
    return None, arguments
