"""Resuming a run: finds the run, compares the requested recipe with it, and chooses the checkpoint."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.errors import MissingInputError, OutputError, RecipeError, UsageError
from llmkit.inference.load_saved import find_task_file_problem
from llmkit.recipe.load import build_recipe
from llmkit.recipe.metric_names import list_metric_files
from llmkit.runs import checkpoint, distributed, manifest, recipe_diff
from llmkit.runs.checkpoint import Checkpoint
from llmkit.runs.folder import CHECKPOINTS_FOLDER
from llmkit.runs.recipe_diff import RecipeDiff, RequestedRecipe
from llmkit.schema import Recipe
from llmkit.training.processes import strategies


def parse_resume_path(resume: str | Path) -> tuple[Path, int | None]:
    """Return the run folder that `--resume` names, and the step if it names a checkpoint.

    Raises MissingInputError if it names neither.
    """
    path = Path(resume).expanduser()
    step = checkpoint.CHECKPOINT_NAME.fullmatch(path.resolve().name)
    run = path.resolve().parent.parent if step else path
    if not path.exists() or not (run / "run.json").is_file():
        what = f"--resume {path}: not a run folder or checkpoint"
        raise MissingInputError(what, "name a run folder, or a checkpoint in its checkpoints/")
    return (Path(os.path.relpath(run)) if step else path, int(step[1]) if step else None)


def load_run_recipe(run: Path) -> Recipe:
    """Load the recipe of an earlier run's command. Raises OutputError if the run has not recorded it."""
    record = manifest.read_manifest(run)
    if "given" not in record:
        raise OutputError(f"{run}: was started by an older llmkit", "give the command that started it, with -o")
    given, recorded = record["given"], {one["path"]: one for one in record.get("metric_files", [])}
    metrics = list_metric_files((given.get("eval") or {}).get("metrics") or [])
    code = [
        ("task", given.get("task"), record.get("task_file")),
        *(("metric", one, recorded.get(one)) for one in metrics),
    ]
    for kind, name, file in code:
        if find_task_file_problem(run, name, file):
            what = f"{run}: its {kind} file {name} is inside the run folder, missing or changed"
            raise RecipeError(what, "read it, then give the command that started the run, with -o")
    return build_recipe(record["given"], str(run / "run.json"), output_dir=str(run))


def check_output_dir_matches(run: Path, output_dir: str | None) -> None:
    """Raise UsageError if `--output-dir` names another folder than the run to resume."""
    if output_dir is not None and run.resolve() != Path(output_dir).expanduser().resolve():
        raise UsageError(f"--resume {run} and --output-dir {output_dir} name two runs", "leave one out")


def check_data_unchanged(path: Path) -> None:
    """Raise OutputError if a data file of a finished run has changed since."""
    for one in manifest.read_manifest(path).get("data", []):
        file = resolve_path(one["name"])
        if file.is_file() and manifest.hash_file(file) != one["sha256"]:
            why = f"{path}: holds a finished run, and {one['name']} has changed since"
            raise OutputError(why, "name another --output-dir, or remove the folder")


def compare_with_unfinished_run(path: Path, requested: RequestedRecipe, facts: Mapping[str, Any]) -> RecipeDiff:
    """Return the allowed differences from the unfinished run at `path`. Raises OutputError with a table of the others.

    `facts` are the run.json fields of the new run, with files and their hashes. A folder without a run has no
    differences.
    """
    if not (path / "run.json").exists():
        return []
    record = manifest.read_manifest(path)
    now = manifest.redact_nested_secrets(dict(requested.keys))
    differences = recipe_diff.diff_recipes(record["recipe"], now) if "recipe" in record else []
    differences += recipe_diff.diff_recipes(
        list_file_hashes(record), list_file_hashes(manifest.redact_nested_secrets(dict(facts)))
    )
    recipe_diff.check_recipe_diff(path, differences, requested.allowed)
    return differences


def list_file_hashes(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of a run besides its recipe: file hashes and revisions, by their name in the table."""
    inputs = {f"data {one['name']}": one["sha256"] for one in facts["data"]}
    model, tokenizer, vectors = (facts.get(what) or {} for what in ("model", "tokenizer", "vectors"))
    parts = {given: {"files": files} for given, files in (model.get("parts") or {}).items()}
    base = {"files": (model.get("base") or {}).get("weights")}
    for what, record in {"model": model, "base": base, "tokenizer": tokenizer, **parts}.items():
        inputs |= {f"{what} revision": record.get("revision")}
        inputs |= {f"{what} {name}": sha for name, sha in (record.get("files") or {}).items()}
    inputs |= {"word vectors": vectors.get("sha256")}
    inputs |= {f"metric {one['path']}": one["sha256"] for one in facts.get("metric_files", [])}
    inputs |= {"task file": (facts.get("task_file") or {}).get("sha256"), "processes": facts.get("processes", 1)}
    # With per_device_train_batch_size other processes make other steps, which a run cannot continue with.
    return inputs | {"rows per step": facts.get("rows_per_step")}


def find_resume_checkpoint(path: Path, step: int | None, strategy: str = "ddp") -> Checkpoint | None:
    """Find the checkpoint to resume from, that of `step` or the newest; None if the run starts from its first step.

    Prints the choice and the checkpoints to be removed; nothing is removed yet. Raises OutputError if the checkpoint
    of `step` is not valid.
    """
    if not (path / "run.json").exists():
        return None
    root = path / CHECKPOINTS_FOLDER
    if strategy in strategies.NON_RESUMABLE_STRATEGIES:
        why = f"{strategy} keeps its optimizer in a form that llmkit does not save"
        console.print_message(f"{path}: the run there did not finish; it starts again from its first step: {why}")
        return None
    resumed = checkpoint.find_newest_checkpoint(root, manifest.read_manifest(path).get("id", ""), step)
    if resumed is None and step is not None:
        fix = f"--resume {shlex.quote(str(path))} chooses another"
        raise OutputError(f"{checkpoint.get_checkpoint_path(root, step)}: cannot be resumed from", fix)
    steps = checkpoint.list_checkpoint_steps(root)
    if resumed is None:
        others = "; its unusable checkpoints are removed" if steps else ""
        console.print_message(f"{path}: the run there did not finish; it starts again from its first step{others}")
        return None
    which = "the newest valid checkpoint" if step is None else "the named checkpoint"
    others = "; later ones are removed" if steps[0] > resumed.step else ""
    console.print_message(f"{path}: resumes after step {resumed.step:,}, {which}{others}")
    return resumed


def report_library_changes(previous: Mapping[str, Any], now: Mapping[str, str]) -> None:
    """Print which library versions have changed since the run began: the weights may differ in their last bits."""
    changes = recipe_diff.diff_recipes(previous["versions"], dict(now))
    if changes:
        versions = ", ".join(f"{name} {new} (then {old})" for name, old, new in changes)
        why = "the weights may differ in their last bits from those of an uninterrupted run"
        console.print_message(f"resumes with {versions}: {why}")


def format_resume_hint(path: Path) -> str:
    """Return the message on an interrupted run: its last checkpoint and the command that resumes it."""
    done = next(iter(checkpoint.list_checkpoint_steps(path / CHECKPOINTS_FOLDER)), None)
    processes = f" --processes {distributed.world_size()}" if distributed.world_size() > 1 else ""
    command = f"`llmkit train --resume {shlex.quote(str(path))}{processes}`"
    if done is None:
        return f"{path}: unfinished, no checkpoint yet; {command} starts it again"
    return f"{path}: unfinished, saved up to step {done:,}; {command} resumes it"
