"""Commands about starting runs elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

from llmkit import console
from llmkit.errors import UsageError

launch_app = typer.Typer(help="Run on a cluster.", rich_markup_mode=None)


@launch_app.callback(invoke_without_command=True)
def launch_group(context: typer.Context) -> None:
    """Run on a cluster."""
    if context.invoked_subcommand is None:
        console.print_result(context.get_help())


@launch_app.command()
def slurm_command(
    words: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE [KEY=VALUE]", help="What `llmkit train` is given on the cluster."),
    ],
    output_dir: Annotated[
        str | None,
        typer.Option("--output-dir", "-o", help="The run folder, on a disk that all machines share. [output_dir]"),
    ] = None,
    machines: Annotated[int, typer.Option(help="Machines.")] = 1,
    processes: Annotated[int, typer.Option(help="Processes on each machine: one a GPU.")] = 1,
    time: Annotated[str, typer.Option(help="The time limit, as Slurm writes it.")] = "04:00:00",
    partition: Annotated[str | None, typer.Option(help="The partition.")] = None,
    cpus: Annotated[int, typer.Option(help="Cores for each process.")] = 8,
    cpu: Annotated[bool, typer.Option("--cpu", help="Ask for no GPUs.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of a mistake.")] = False,  # noqa: ARG001
) -> None:
    """Print a batch script that runs a recipe: llmkit launch slurm RECIPE -o runs/mine > job.sh, then sbatch job.sh

    The recipe is checked here, with its keys; its data is looked at on the cluster.
    """
    from llmkit.recipe.load import load_recipe
    from llmkit.training.processes.slurm import SlurmResources, build_slurm_script

    recipe = load_recipe(words[0], words[1:], output_dir=output_dir)
    if recipe.output_dir is None:
        raise UsageError("no -o FOLDER: a job that is queued again would start anew", "name one on a shared disk")
    given = words if output_dir is None else [*words, "--output-dir", output_dir]
    console.print_result(
        build_slurm_script(
            given, SlurmResources(machines, processes, time, partition, cpus, not cpu), f"llmkit-{words[0]}"
        )
    )
