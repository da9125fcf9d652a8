"""Builds run.json when a run starts or resumes, and creates the checkpoint policy."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmkit import console
from llmkit.models.scratch import word_vectors
from llmkit.recipe.load import dump_recipe, get_given_values
from llmkit.runs import checkpoint, distributed, manifest, recipe_diff
from llmkit.runs.checkpoint import Checkpoint
from llmkit.runs.folder import CHECKPOINTS_FOLDER, RunFolder
from llmkit.runs.recipe_diff import RecipeDiff
from llmkit.schema import Recipe
from llmkit.training.checkpoints import resume
from llmkit.training.setup import model as starting

if TYPE_CHECKING:
    from llmkit.training.checkpoints.policy import CheckpointPolicy
    from llmkit.training.processes.signals import StopRequest
    from llmkit.training.setup.prepared import PreparedRun


class Provenance(NamedTuple):
    """Inputs of a run as in run.json, and the allowed changes against the unfinished run in its folder."""

    facts: dict[str, Any]
    allowed_changes: RecipeDiff


def check_provenance(start: PreparedRun, path: Path) -> Provenance:
    """Collect the provenance before a model loads. Raises OutputError if the folder holds a different run."""
    facts = collect_provenance(start)
    return Provenance(facts, resume.compare_with_unfinished_run(path, start.requested, facts))


def collect_provenance(start: PreparedRun) -> dict[str, Any]:
    """Collect the run.json fields on the rows, files and recipe that a run starts from."""
    recipe, name, splits = start.recipe, start.model, start.splits
    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    model_hashes = None if name.folder is None else manifest.hash_tree(name.folder, name.folder)
    words = starting.resolve_tokenizer_ref(recipe, name)
    word_hashes = None if words is name or words.folder is None else manifest.hash_tree(words.folder, words.folder)
    facts = {
        "recipe_sha256": start.requested.fingerprint,
        "recipe": dict(start.requested.keys),
        "given": get_given_values(recipe),
        "task": start.task.name,
        "task_file": task_file and {"path": str(task_file), "sha256": manifest.hash_file(task_file)},
        "seeds": {"train": recipe.train.seed, "split": recipe.data.split.seed},
        "rows": {"train": len(splits.train)} | {split: len(rows) for split, rows in splits.holdout.items()},
        "data": splits.fingerprint_sources(),
        "model": {"name": name.name, "revision": name.revision, "files": model_hashes},
        "processes": distributed.world_size(),
    }
    if name.is_adapter:
        from llmkit.models.adapters import folder as adapter_folder

        facts["model"] = {**facts["model"], "base": adapter_folder.read_base_record(name)}  # type: ignore[dict-item]
    if recipe.model.encoder is not None:
        both = [(one.name, one.folder) for one in starting.resolve_encoder_decoder(recipe)]
        parts = {given: manifest.hash_tree(place, place) if place else None for given, place in both}
        facts["model"] = {"name": name.name, "revision": recipe.model.revision, "files": None, "parts": parts}
    elif words is not name:
        facts["tokenizer"] = {"name": words.name, "files": word_hashes}
    if (given := recipe.model.word_vectors) is not None:
        facts["vectors"] = {"name": given, "sha256": manifest.hash_file(word_vectors.locate_word_vectors(given))}
    return facts


def write_run_record(
    recipe: Recipe, start: PreparedRun, folder: RunFolder, known: Provenance, said: str, step: int | None
) -> tuple[dict[str, Any], Checkpoint | None]:
    """Write recipe.yaml and the unsealed run.json, from where on the folder is kept. Gives what the manifests of its
    checkpoints say, and the checkpoint that the run goes on from: its run.json then says that it went on.
    """
    from llmkit.models.device import describe_hardware

    text = dump_recipe(recipe, [f"llmkit train {shlex.quote(str(folder / 'recipe.yaml'))} repeats this run", said])
    facts = {
        **known.facts,
        "precision": {"train": recipe.train.precision, "eval": recipe.eval.precision},
        "hardware": describe_hardware(),
    }
    folder.remember_files()
    found = resume.find_resume_checkpoint(folder.path, step, recipe.train.strategy)
    if found is None:
        checkpoint.clear_checkpoints(folder / CHECKPOINTS_FOLDER)
        (folder / "log.jsonl").unlink(missing_ok=True)
        manifest.begin_manifest(folder.path, text, facts)  # first: a folder with only a recipe would not be recognized as a run
    else:
        then = manifest.read_manifest(folder.path)
        precise = recipe_diff.diff_recipes(
            {"train.precision": then["precision"].get("train")}, {"train.precision": recipe.train.precision}
        )
        recipe_diff.check_recipe_diff(folder.path, precise, start.requested.allowed)
        resume.report_library_changes(then, manifest.collect_versions())
        manifest.record_resume(folder.path, found.step, facts, [*known.allowed_changes, *precise])
    folder.started = True
    manifest.write_text_file(folder / "recipe.yaml", console.redact_secrets(text))
    about = {
        "run": manifest.read_manifest(folder.path)["id"],
        "processes": distributed.world_size(),
        "recipe": start.requested.fingerprint,
    }
    return about, found


def build_checkpoint_policy(
    recipe: Recipe, folder: RunFolder, about: Mapping[str, Any], stop: StopRequest, resumed: Checkpoint | None
) -> CheckpointPolicy:
    """Build the checkpoint policy of a run."""
    from llmkit.training.checkpoints.policy import CheckpointPolicy

    return CheckpointPolicy(folder / CHECKPOINTS_FOLDER, about, recipe.train.save_total_limit, stop, resumed)
