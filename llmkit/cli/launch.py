"""The command `launch slurm`, which prints a batch script for a cluster."""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit import console
from llmkit.cli.options import DebugOption
from llmkit.errors import UsageError

launch_app = typer.Typer(help="Run on a cluster.", rich_markup_mode=None)


@launch_app.callback(invoke_without_command=True)
def launch_group(context: typer.Context) -> None:
    """Run on a cluster."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@launch_app.command("slurm")
def slurm_command(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE [KEY=VALUE]", help="The arguments of `llmkit train` on the cluster."),
    ],
    output_dir: Annotated[
        str | None,
        typer.Option("--output-dir", "-o", help="The run folder, on a disk that all machines share. [output_dir]"),
    ] = None,
    machines: Annotated[int, typer.Option(help="Machines.")] = 1,
    processes: Annotated[int, typer.Option(help="Processes on each machine: one for each GPU.")] = 1,
    time: Annotated[str, typer.Option(help="The time limit, in Slurm's format.")] = "04:00:00",
    partition: Annotated[str | None, typer.Option(help="The partition.")] = None,
    cpus: Annotated[int, typer.Option(help="Cores for each process.")] = 8,
    cpu: Annotated[bool, typer.Option("--cpu", help="Request no GPUs.")] = False,
    debug: DebugOption = False,  # noqa: ARG001
) -> None:
    """Print a batch script that runs a recipe: llmkit launch slurm RECIPE -o runs/mine > job.sh, then sbatch job.sh

    The recipe and its keys are checked here; its data is checked on the cluster.
    """
    from llmkit.recipe.load import load_recipe
    from llmkit.training.processes.slurm import SlurmResources, build_slurm_script

    recipe = load_recipe(arguments[0], arguments[1:], output_dir=output_dir)
    if recipe.output_dir is None:
        what = "no -o FOLDER: a job that Slurm queues again would start over"
        raise UsageError(what, "name a folder on a shared disk")
    words = arguments if output_dir is None else [*arguments, "--output-dir", output_dir]
    resources = SlurmResources(machines, processes, time, partition, cpus, not cpu)
    console.print_result(build_slurm_script(words, resources, f"llmkit-{arguments[0]}"))
