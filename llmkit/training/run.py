"""One run, top to bottom: read, load, train, judge, save, prove, seal."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import console, tasks
from llmkit.data import corpus
from llmkit.data.prepare import Splits, read_splits, source_name
from llmkit.errors import UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import baseline_names, metric_names
from llmkit.evaluation.judge import Report, judge, warn_of_thin_labels, write
from llmkit.evaluation.scores import check_scripts, load_scripts
from llmkit.models.names import ModelName
from llmkit.recipe import report_to
from llmkit.recipe.load import dump, given_of, load_recipe, values_of
from llmkit.recipe.schema import Recipe
from llmkit.runs import changes, launchers, manifest
from llmkit.runs import folder as folders
from llmkit.runs.changes import Asked
from llmkit.tasks.base import Encoded, Task
from llmkit.training import ready, resuming, signals

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmkit.models.load import Loaded
    from llmkit.runs.changes import Differences
    from llmkit.runs.folder import RunFolder
    from llmkit.training.lasting import Keeper
    from llmkit.training.signals import Stop

OUTPUTS = ("recipe.yaml", "model", "metrics.json", "predictions.jsonl", "log.jsonl")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what metrics.json says."""

    path: Path
    report: Report | None  # None where no rows were held back, or where it was finished before

    def scores(self) -> dict[str, Any]:
        """What metrics.json says; empty where no rows were held back."""
        path = self.path / "metrics.json"
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return found


def train(
    recipe: str | Path | Recipe | None = None,
    *overrides: str,
    task: str | None = None,
    resume: str | Path | None = None,
    allow_change: Collection[str] = (),
    **words: Any,
) -> Run:
    """Train what a recipe describes and return the finished run.

    `recipe` is a file, the name of a shipped recipe, or none; `overrides` are KEY=VALUE texts and `words` the flags
    of the command line (model, train, validation, test, text, label, epochs, output_dir). Where the output folder holds
    this run, unfinished, it goes on from its newest checkpoint that is whole; `resume` names a run folder or one
    checkpoint, and alone it stands for the whole command. `allow_change` names keys that may differ from before.

    Raises an LlmkitError for whatever is wrong; a refused run leaves nothing behind. SIGTERM and SIGUSR1 end it with
    Stopped, Ctrl-C with KeyboardInterrupt, after a checkpoint of the step that they come in.
    """
    with signals.listening() as stop:
        asked, step = taken_up(recipe, overrides, task, resume, words)
        try:
            start = prepare(asked, allow_change)
        except folders.FinishedError:
            path = Path(asked.output_dir or "").expanduser()
            resuming.refuse_other_data(path)
            shutil.rmtree(path / resuming.CHECKPOINTS, ignore_errors=True)  # it was killed as it removed them
            console.note(f"{path}: this run is finished; nothing was left to do")
            return Run(path, None)
        with start.folder() as folder:
            try:
                return carry_out(start, folder, stop, step)
            finally:
                if not (folder / "run.json").exists():  # the Trainer has made it already
                    shutil.rmtree(folder / resuming.CHECKPOINTS, ignore_errors=True)
                if folder.started and not manifest.read(folder.path)["sealed"]:
                    console.note(resuming.how(folder.path))


@dataclass(frozen=True)
class Start:
    """What is known before a model loads: the recipe with a model named, and checked rows."""

    recipe: Recipe
    task: Task
    model: ModelName
    splits: Splits
    name: str
    path: Path
    asked: Asked  # the recipe before anything was settled

    def folder(self) -> AbstractContextManager[RunFolder]:
        """The run folder, made and locked."""
        if self.recipe.output_dir:
            return folders.open_folder(self.path, self.asked)
        return folders.open_fresh(self.name, self.asked)


def taken_up(
    recipe: str | Path | Recipe | None,
    overrides: Sequence[str],
    task: str | None,
    resume: str | Path | None,
    words: dict[str, Any],
) -> tuple[Recipe, int | None]:
    """The recipe that the arguments of `train` describe, and the step where they name a checkpoint."""
    if resume is None:
        return named(recipe, overrides, task, words), None
    path, step = resuming.place_of(resume)
    if recipe is None and not overrides and not any(value is not None for value in words.values()):
        return resuming.recipe_of(path), step
    asked = named(recipe, overrides, task, words)
    resuming.refuse_two_folders(path, asked.output_dir)
    return asked.model_copy(update={"output_dir": str(path)}), step


def named(
    recipe: str | Path | Recipe | None, overrides: Sequence[str], task: str | None, words: dict[str, Any]
) -> Recipe:
    """The recipe that the arguments of `train` describe."""
    if isinstance(recipe, Recipe):
        if overrides or task or words:
            raise UsageError("a Recipe object and changes to it together", "give the changes to load_recipe")
        return recipe
    words = {word: os.fspath(value) if isinstance(value, os.PathLike) else value for word, value in words.items()}
    return load_recipe(recipe, overrides, task=task, **words)


def prepare(recipe: Recipe, allow_change: Collection[str] = ()) -> Start:
    """All that can be checked without a model; says what there is to say about the rows."""
    refuse_many_processes()
    task = tasks.load(recipe.task)(recipe.options)
    report_to.check(recipe.train.hf.get("report_to", "none"))
    recipe, model = ready.name_model(recipe)
    ready.tokenizer_name(recipe, model)  # that it is there
    check_scripts(metric_names(recipe, task))
    if recipe.data.streaming:
        corpus.check(recipe.data, task.corpus, recipe.train.max_steps, recipe.train.dataloader_num_workers)
    asked = Asked(manifest.text_hash(dump(recipe)), values_of(recipe), tuple(allow_change))
    name = f"{task.name}-{source_name(recipe.data)}"
    path = folders.chosen(recipe.output_dir, name, asked)
    splits = read_splits(recipe.data, task)
    for text in splits.notes + task.fit(splits.train, splits.others):
        console.note(text)
    return Start(recipe, task, model, splits, name, path, asked)


def carry_out(start: Start, folder: RunFolder, stop: Stop, step: int | None = None) -> Run:
    """The story of a run in an open folder, from checked rows to the seal."""
    from llmkit.training.learn import learn, trainer_for
    from llmkit.training.prove import room, save_and_prove

    task, splits = start.task, start.splits
    facts = facts_of(start)
    changed = resuming.compared(folder.path, start.asked, facts)
    recipe, loaded = ready.load(start.recipe, task, start.model)
    encoded = ready.encode(recipe, task, loaded, splits)
    ready.start_head(task, loaded)
    recipe, precision = ready.settle(recipe, splits, loaded)
    folders.check_room(folder.path, room(recipe, loaded.model))
    load_scripts(metric_names(recipe, task))
    trainer = trainer_for(recipe, task, loaded, splits, encoded, folder)
    console.note(trainer.shortcuts.said())
    keeper = begin(recipe, start, folder, facts, changed, precision, stop, step)
    learn(trainer, folder, keeper, passed_through=bool(recipe.train.hf))
    tune(recipe, task, loaded, splits, encoded)
    model = save_and_prove(recipe, task, loaded, splits.train, folder)
    report = judge_and_write(recipe, task, model, loaded, splits, encoded, folder)
    manifest.seal(folder.path, OUTPUTS)
    shutil.rmtree(folder / resuming.CHECKPOINTS, ignore_errors=True)
    return Run(folder.path, report)


def refuse_many_processes() -> None:
    """Raise UsageError under a launcher: each process would train a model of its own on the same rows."""
    if found := launchers.several(os.environ):
        said = ", ".join(f"{name}={size}" for name, size in found.items())
        mend = f"this version trains on one: start it without a launcher, or unset {' '.join(found)}"
        raise UsageError(f"started as several processes ({said})", mend)


def facts_of(start: Start) -> dict[str, Any]:
    """What run.json says of the rows, the files and the recipe that a run starts from."""
    recipe, name, splits = start.recipe, start.model, start.splits
    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    model_hashes = None if name.folder is None else manifest.tree_hashes(name.folder, name.folder)
    words = ready.tokenizer_name(recipe, name)
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
        "processes": 1,
    }
    if words is not name:
        facts["tokenizer"] = {"name": words.given, "files": word_hashes}
    return facts


def begin(
    recipe: Recipe,
    start: Start,
    folder: RunFolder,
    facts: dict[str, Any],
    changed: Differences,
    said: str,
    stop: Stop,
    step: int | None,
) -> Keeper:
    """Write recipe.yaml and the unsealed run.json, from where on the folder is kept; what keeps the run's checkpoints.

    A run that goes on keeps its run.json, which then says so.
    """
    from llmkit.models.device import hardware
    from llmkit.training.lasting import Keeper

    text = dump(recipe, [f"llmkit train {folder / 'recipe.yaml'} repeats this run", said])
    facts = {
        **facts,
        "precision": {"train": recipe.train.precision, "eval": recipe.eval.precision},
        "hardware": hardware(),
    }
    found = resuming.checkpoint_of(folder.path, step)
    if found is None:
        shutil.rmtree(folder / resuming.CHECKPOINTS, ignore_errors=True)
        (folder / "log.jsonl").unlink(missing_ok=True)
        manifest.begin(folder.path, text, facts)  # first: a folder with a recipe alone would be nobody's
    else:
        then = manifest.read(folder.path)
        precise = changes.differences(
            {"train.precision": then["precision"]["train"]}, {"train.precision": recipe.train.precision}
        )
        changes.refuse(folder.path, precise, start.asked.allowed)
        resuming.note_other_libraries(then, manifest.versions())
        manifest.go_on(folder.path, found.step, facts, [*changed, *precise])
    folder.started = True
    manifest.write_text(folder / "recipe.yaml", console.redacted(text))
    about = {"run": manifest.read(folder.path)["id"], "processes": 1, "recipe": start.asked.fingerprint}
    return Keeper(folder / resuming.CHECKPOINTS, about, recipe.train.save_total_limit, stop, found)


def tune(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits, encoded: dict[str, Encoded]) -> None:
    """Let the task learn from the validation rows, by the weights that were kept, what its answers need."""
    from llmkit.inference.answers import answer

    if not task.tunes:
        return
    if "validation" not in splits.others:
        console.note("no validation rows: thresholds are not tuned")
        return
    # Weights held in bf16 answer as `llmkit predict` will: widened to fp32.
    model = loaded.model if recipe.model.dtype == "float32" else copy.deepcopy(loaded.model).float()
    features = encoded["validation"].features
    answers = answer(task, model, loaded.tokenizer, features, recipe.eval.batch_size, recipe.eval.precision)
    task.tune(task.references(splits.others["validation"]), answers)


def judge_and_write(
    recipe: Recipe,
    task: Task,
    model: PreTrainedModel,
    loaded: Loaded,
    splits: Splits,
    encoded: dict[str, Encoded],
    folder: RunFolder,
) -> Report | None:
    """Score the saved model on test (else validation) beside the baselines, and write both files of it."""
    from llmkit.inference.answers import answer

    if not splits.others:
        console.note("neither test nor validation rows: nothing was scored")
        return None
    split, rows = splits.judged()
    features = encoded[split].features
    with console.progress(f"scoring {split}", len(rows)) as advance:
        answers = answer(
            task, model, loaded.tokenizer, features, recipe.eval.batch_size, recipe.eval.precision, advance
        )
    held = baselines.answers(task, baseline_names(recipe, task), splits.train, rows)
    references, names = task.references(rows), metric_names(recipe, task)
    report = judge(task, names, split, references, answers, held, by_label=recipe.eval.per_label)
    warn_of_thin_labels(task, references)
    write(folder.path, report, rows, references, answers)
    return report
