"""What run.json says of a run, from its beginning on, and where its checkpoints go."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from llmkit import console
from llmkit.models.scratch import word_vectors
from llmkit.recipe.load import dump, given_of
from llmkit.runs import checkpoint, distributed, manifest, recipe_diff
from llmkit.runs.checkpoint import Commit
from llmkit.runs.folder import CHECKPOINTS, RunFolder
from llmkit.runs.recipe_diff import Differences
from llmkit.schema import Recipe
from llmkit.training.checkpoints import resume
from llmkit.training.setup import model as starting

if TYPE_CHECKING:
    from llmkit.training.checkpoints.policy import Keeper
    from llmkit.training.processes.signals import Stop
    from llmkit.training.setup.prepared import Start


class Known(NamedTuple):
    """What a run starts from, and in what it is allowed to differ from the unfinished one in its folder."""

    facts: dict[str, Any]
    changed: Differences


def known(start: Start, path: Path) -> Known:
    """Both, before a model loads. Raises OutputError where the folder holds a run of something else."""
    facts = facts_of(start)
    return Known(facts, resume.compared(path, start.asked, facts))


def facts_of(start: Start) -> dict[str, Any]:
    """What run.json says of the rows, the files and the recipe that a run starts from."""
    recipe, name, splits = start.recipe, start.model, start.splits
    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    model_hashes = None if name.folder is None else manifest.tree_hashes(name.folder, name.folder)
    words = starting.tokenizer_name(recipe, name)
    word_hashes = None if words is name or words.folder is None else manifest.tree_hashes(words.folder, words.folder)
    facts = {
        "recipe_sha256": start.asked.fingerprint,
        "recipe": dict(start.asked.keys),
        "given": given_of(recipe),
        "task": start.task.name,
        "task_file": task_file and {"path": str(task_file), "sha256": manifest.file_hash(task_file)},
        "seeds": {"train": recipe.train.seed, "split": recipe.data.split.seed},
        "rows": {"train": len(splits.train)} | {split: len(rows) for split, rows in splits.others.items()},
        "data": splits.files(),
        "model": {"name": name.given, "revision": name.revision, "files": model_hashes},
        "processes": distributed.size(),
    }
    if name.adapter:
        from llmkit.models.adapters import folder as adapter_folder

        facts["model"] = {**facts["model"], "base": adapter_folder.recorded(name)}  # type: ignore[dict-item]
    if recipe.model.encoder is not None:
        both = [(one.given, one.folder) for one in starting.parts(recipe)]
        parts = {given: manifest.tree_hashes(place, place) if place else None for given, place in both}
        facts["model"] = {"name": name.given, "revision": recipe.model.revision, "files": None, "parts": parts}
    elif words is not name:
        facts["tokenizer"] = {"name": words.given, "files": word_hashes}
    if (given := recipe.model.vectors) is not None:
        facts["vectors"] = {"name": given, "sha256": manifest.file_hash(word_vectors.file_of(given))}
    return facts


def begin(
    recipe: Recipe, start: Start, folder: RunFolder, known: Known, said: str, step: int | None
) -> tuple[dict[str, Any], Commit | None]:
    """Write recipe.yaml and the unsealed run.json, from where on the folder is kept. Gives what the manifests of its
    checkpoints say, and the checkpoint that the run goes on from: its run.json then says that it went on.
    """
    from llmkit.models.device import hardware

    text = dump(recipe, [f"llmkit train {shlex.quote(str(folder / 'recipe.yaml'))} repeats this run", said])
    facts = {
        **known.facts,
        "precision": {"train": recipe.train.precision, "eval": recipe.eval.precision},
        "hardware": hardware(),
    }
    folder.remember()
    found = resume.checkpoint_of(folder.path, step, recipe.train.strategy)
    if found is None:
        checkpoint.clear(folder / CHECKPOINTS)
        (folder / "log.jsonl").unlink(missing_ok=True)
        manifest.begin(folder.path, text, facts)  # first: a folder with a recipe alone would be nobody's
    else:
        then = manifest.read(folder.path)
        precise = recipe_diff.differences(
            {"train.precision": then["precision"].get("train")}, {"train.precision": recipe.train.precision}
        )
        recipe_diff.refuse(folder.path, precise, start.asked.allowed)
        resume.note_other_libraries(then, manifest.versions())
        manifest.go_on(folder.path, found.step, facts, [*known.changed, *precise])
    folder.started = True
    manifest.write_text(folder / "recipe.yaml", console.redacted(text))
    about = {
        "run": manifest.read(folder.path)["id"],
        "processes": distributed.size(),
        "recipe": start.asked.fingerprint,
    }
    return about, found


def keeper(recipe: Recipe, folder: RunFolder, about: Mapping[str, Any], stop: Stop, resumed: Commit | None) -> Keeper:
    """What keeps the run's checkpoints."""
    from llmkit.training.checkpoints.policy import Keeper

    return Keeper(folder / CHECKPOINTS, about, recipe.train.save_total_limit, stop, resumed)
