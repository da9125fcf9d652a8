"""Builds run.json when a run starts or resumes, and creates the checkpoint policy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmkit import console
from llmkit.metrics.external import metric_file
from llmkit.models.scratch import word_vectors
from llmkit.recipe.load import dump_recipe, get_given_values
from llmkit.recipe.metric_names import list_metric_files
from llmkit.runs import checkpoint, distributed, manifest, recipe_diff
from llmkit.runs.checkpoint import Checkpoint
from llmkit.runs.folder import CHECKPOINTS_FOLDER, RunFolder
from llmkit.runs.recipe_diff import RecipeDiff
from llmkit.schema import Recipe
from llmkit.training.checkpoints import resume
from llmkit.training.setup import model as setup_model
from llmkit.training.setup.step_size import count_rows_per_step

if TYPE_CHECKING:
    from llmkit.training.checkpoints.policy import CheckpointPolicy
    from llmkit.training.processes.signals import StopRequest
    from llmkit.training.setup.prepared import PreparedRun


class Provenance(NamedTuple):
    """Inputs of a run as in run.json, and the allowed changes against the unfinished run in its folder."""

    facts: dict[str, Any]
    allowed_changes: RecipeDiff


def check_provenance(prepared: PreparedRun, path: Path) -> Provenance:
    """Collect the provenance before a model loads. Raises OutputError if the folder holds a different run."""
    facts = collect_provenance(prepared)
    return Provenance(facts, resume.compare_with_unfinished_run(path, prepared.requested, facts))


def collect_provenance(prepared: PreparedRun) -> dict[str, Any]:
    """Collect the run.json fields on the rows, files and recipe that a run starts from."""
    recipe, name, splits = prepared.recipe, prepared.model, prepared.splits
    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    model_hashes = None if name.folder is None else manifest.hash_tree(name.folder, name.folder)
    tokenizer_ref = setup_model.resolve_tokenizer_ref(recipe, name)
    tokenizer_hashes = None
    if tokenizer_ref is not name and tokenizer_ref.folder is not None:
        tokenizer_hashes = manifest.hash_tree(tokenizer_ref.folder, tokenizer_ref.folder)
    facts = {
        "recipe_sha256": prepared.requested.fingerprint,
        "recipe": dict(prepared.requested.keys),
        "given": get_given_values(recipe),
        "task": prepared.task.name,
        "task_file": task_file and {"path": str(task_file), "sha256": manifest.hash_file(task_file)},
        "seeds": {"train": recipe.train.seed, "split": recipe.data.split.seed},
        "rows": {"train": len(splits.train)} | {split: len(rows) for split, rows in splits.holdout.items()},
        "data": splits.fingerprint_sources(),
        "model": {"name": name.name, "revision": name.revision, "files": model_hashes},
        "processes": distributed.world_size(),
        "rows_per_step": count_rows_per_step(recipe.train, distributed.world_size()),
    }
    if name.is_adapter:
        from llmkit.models.adapters import folder as adapter_folder

        facts["model"] = {**facts["model"], "base": adapter_folder.read_base_record(name)}  # type: ignore[dict-item]
    if recipe.model.encoder is not None:
        refs = [(one.name, one.folder) for one in setup_model.resolve_encoder_decoder(recipe)]
        parts = {given: manifest.hash_tree(path, path) if path else None for given, path in refs}
        facts["model"] = {"name": name.name, "revision": recipe.model.revision, "files": None, "parts": parts}
    elif tokenizer_ref is not name:
        facts["tokenizer"] = {"name": tokenizer_ref.name, "files": tokenizer_hashes}
    if (given := recipe.model.word_vectors) is not None:
        facts["vectors"] = {"name": given, "sha256": manifest.hash_file(word_vectors.locate_word_vectors(given))}
    if files := list_metric_files(recipe.eval.metrics):
        facts["metric_files"] = [{"path": one, "sha256": metric_file.load_metric_file(one).digest} for one in files]
    return facts


def write_run_record(
    recipe: Recipe, prepared: PreparedRun, folder: RunFolder, inputs: Provenance, precision: str, step: int | None
) -> tuple[dict[str, Any], Checkpoint | None]:
    """Write recipe.yaml and the unsealed run.json; from then on the folder is kept if the run fails.

    Returns the manifest fields of the run's checkpoints, and the checkpoint to resume from, which run.json records.
    """
    from llmkit.models.device import describe_hardware

    text = dump_recipe(recipe, [f"llmkit train {shlex.quote(str(folder / 'recipe.yaml'))} repeats this run", precision])
    facts = {
        **inputs.facts,
        "precision": {"train": recipe.train.precision, "eval": recipe.eval.precision},
        "hardware": describe_hardware(),
    }
    folder.remember_files()
    resumed = resume.find_resume_checkpoint(folder.path, step, recipe.train.strategy)
    if resumed is None:
        checkpoint.clear_checkpoints(folder / CHECKPOINTS_FOLDER)
        (folder / "log.jsonl").unlink(missing_ok=True)
        # First, because a folder with only a recipe would not be recognized as a run.
        manifest.begin_manifest(folder.path, text, facts)
    else:
        previous = manifest.read_manifest(folder.path)
        precision_diff = recipe_diff.diff_recipes(
            {"train.precision": previous["precision"].get("train")}, {"train.precision": recipe.train.precision}
        )
        recipe_diff.check_recipe_diff(folder.path, precision_diff, prepared.requested.allowed)
        resume.report_library_changes(previous, manifest.collect_versions())
        manifest.record_resume(folder.path, resumed.step, facts, [*inputs.allowed_changes, *precision_diff])
    folder.started = True
    manifest.write_text_file(folder / "recipe.yaml", console.redact_secrets(text))
    fields = {
        "run": manifest.read_manifest(folder.path)["id"],
        "processes": distributed.world_size(),
        "recipe": prepared.requested.fingerprint,
    }
    return fields, resumed


def build_checkpoint_policy(
    recipe: Recipe, folder: RunFolder, fields: Mapping[str, Any], stop: StopRequest, resumed: Checkpoint | None
) -> CheckpointPolicy:
    """Build the checkpoint policy of a run."""
    from llmkit.training.checkpoints.policy import CheckpointPolicy

    return CheckpointPolicy(folder / CHECKPOINTS_FOLDER, fields, recipe.train.save_total_limit, stop, resumed)
