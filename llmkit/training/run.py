"""One run, top to bottom: read, load, train, judge, save, prove, seal."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import console, tasks
from llmkit.data import corpus
from llmkit.data.faults import counted
from llmkit.data.prepare import Splits, read_splits, source_name
from llmkit.errors import OutputError, UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import baseline_names, metric_names
from llmkit.evaluation.judge import Report, judge, warn_of_thin_labels, write
from llmkit.evaluation.scores import check_scripts, load_scripts
from llmkit.models import vectors
from llmkit.models.names import ModelName
from llmkit.recipe import report_to
from llmkit.recipe.load import dump, load_recipe
from llmkit.recipe.schema import Recipe
from llmkit.runs import folder as folders
from llmkit.runs import manifest, ranks
from llmkit.runs.folder import RunFolder
from llmkit.tasks.base import Encoded, Task
from llmkit.training import ready
from llmkit.training import start as starting

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmkit.models.load import Loaded

OUTPUTS = ("recipe.yaml", "model", "metrics.json", "predictions.jsonl", "log.jsonl")
COPIES = 3  # of the weights at the most at one time: the best, the last, and one being written


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and what metrics.json says."""

    path: Path
    report: Report | None  # None where no rows were held back


def train(recipe: str | Path | Recipe | None = None, *overrides: str, task: str | None = None, **words: Any) -> Run:
    """Train what a recipe describes and return the finished run.

    `recipe` is a file, the name of a shipped recipe, or none; `overrides` are KEY=VALUE texts and `words` the flags
    of the command line (model, train, validation, test, text, label, epochs, output_dir). Raises an LlmkitError for
    whatever is wrong with them; a refused run leaves nothing behind.
    """
    ranks.join()
    start = prepare(named(recipe, overrides, task, words))
    with opened(start) as folder, ranks.naming_the_lost():
        try:
            return carry_out(start, folder)
        finally:
            if ranks.first():
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            if folder.started and not manifest.read(folder.path)["sealed"]:
                again = f"the same command with --output-dir {folder.path} starts it again"
                console.note(f"{folder.path}: unfinished; {again}")


@dataclass(frozen=True)
class Start:
    """What is known before a model loads: the recipe with a model named, and checked rows."""

    recipe: Recipe
    task: Task
    model: ModelName
    splits: Splits
    name: str
    path: Path
    fingerprint: str  # of the recipe as it was asked for

    def folder(self) -> AbstractContextManager[RunFolder]:
        """The run folder, made and locked."""
        if self.recipe.output_dir:
            return folders.open_folder(self.path, self.fingerprint)
        return folders.open_fresh(self.name, self.fingerprint)


@contextmanager
def opened(start: Start) -> Iterator[RunFolder]:
    """The run folder. Of several processes the first makes and locks it; all must see it, and the others only read."""
    with start.folder() if ranks.first() else nullcontext(RunFolder(start.path)) as mine:
        path = ranks.from_first(mine.path)
        folder = mine if ranks.first() else RunFolder(path)
        blind = [rank for rank, seen in enumerate(ranks.gathered(folder.path.is_dir())) if not seen]
        if blind:
            what = f"{folder.path}: rank {blind[0]} of {ranks.size()} does not see it"
            raise OutputError(what, "name an --output-dir on a disk that all machines share")
        yield folder


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


def prepare(recipe: Recipe) -> Start:
    """All that can be checked without a model; says what there is to say about the rows."""
    connect(recipe)
    task = tasks.load(recipe.task)(recipe.options)
    report_to.check(recipe.train.hf.get("report_to", "none"))
    recipe, model = starting.name_model(recipe, task)
    starting.tokenizer_name(recipe, model)  # that it is there
    check_scripts(metric_names(recipe, task))
    if recipe.data.streaming:
        corpus.check(recipe.data, task.corpus, recipe.train.max_steps, recipe.train.dataloader_num_workers)
    fingerprint = manifest.text_hash(dump(recipe))
    name = f"{task.name}-{source_name(recipe.data)}"
    path = ranks.from_first(folders.chosen(recipe.output_dir, name, fingerprint) if ranks.first() else Path())
    splits = read_splits(recipe.data, task)
    for text in splits.notes + task.fit(splits.train, splits.others):
        console.note(text)
    return Start(recipe, task, model, splits, name, path, fingerprint)


def carry_out(start: Start, folder: RunFolder) -> Run:
    """The story of a run in an open folder, from checked rows to the seal."""
    from llmkit.training.learn import learn, trainer_for
    from llmkit.training.prove import saved_by_first, size_of

    task, splits = start.task, start.splits
    recipe, loaded = starting.load(start.recipe, task, start.model, splits.train)
    with ranks.first_before_others() if task.corpus else nullcontext():  # it leaves the tokens in the cache
        encoded = ready.encode(recipe, task, loaded, splits)
    ready.start_head(task, loaded)
    recipe, precision = ready.settle(recipe, splits, loaded)
    if ranks.first():
        folders.check_room(folder.path, COPIES * size_of(loaded.model))
    load_scripts(metric_names(recipe, task))
    trainer = trainer_for(recipe, task, loaded, splits, encoded, folder)
    console.note(trainer.shortcuts.said())
    if ranks.first():
        begin(recipe, task, start.model, folder, splits, start.fingerprint, precision)
    learn(trainer, folder, passed_through=bool(recipe.train.hf))
    loaded = replace(loaded, model=trainer.whole(task.model().auto_class))
    tune(recipe, task, loaded, splits, encoded)
    model = saved_by_first(recipe, task, loaded, splits.train, folder)
    report = judge_and_write(recipe, task, model, loaded, splits, encoded, folder)
    if ranks.first():
        manifest.seal(folder.path, OUTPUTS)
    return Run(folder.path, report)


def connect(recipe: Recipe) -> None:
    """Let the processes that a launcher has started work together. Raises RecipeError where the machine cannot."""
    if ranks.size() == 1 and recipe.train.strategy == "ddp":
        return
    from llmkit.models.device import device
    from llmkit.training import strategies
    from llmkit.training.arguments import rows_per_step

    on = device().type
    strategies.check(recipe.train.strategy, on, ranks.size())
    ranks.connect(recipe.train.ddp_timeout, on)
    rows = counted(rows_per_step(recipe.train), "row")
    console.note(f"{ranks.size()} processes ({recipe.train.strategy}): each step's {rows} divided among them")


def begin(
    recipe: Recipe, task: Task, name: ModelName, folder: RunFolder, splits: Splits, fingerprint: str, said: str
) -> None:
    """Write recipe.yaml and the unsealed run.json; from here on the folder is kept."""
    from llmkit.models.device import hardware

    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    text = dump(recipe, [f"llmkit train {folder / 'recipe.yaml'} repeats this run", said])
    model_hashes = None if name.folder is None else manifest.tree_hashes(name.folder, name.folder)
    words = starting.tokenizer_name(recipe, name)
    word_hashes = None if words is name or words.folder is None else manifest.tree_hashes(words.folder, words.folder)
    facts = {
        "recipe_sha256": fingerprint,
        "task": task.name,
        "task_file": task_file and {"path": str(task_file), "sha256": manifest.file_hash(task_file)},
        "seeds": {"train": recipe.train.seed, "split": recipe.data.split.seed},
        "precision": {"train": recipe.train.precision, "eval": recipe.eval.precision},
        "rows": {"train": len(splits.train)} | {split: len(rows) for split, rows in splits.others.items()},
        "data": splits.files(),
        "model": {"name": name.given, "revision": name.revision, "files": model_hashes},
        "hardware": hardware(),
    }
    if name.adapter:
        from llmkit.models import adapters

        facts["model"] = {**facts["model"], "base": adapters.recorded(name)}  # type: ignore[dict-item]
    if recipe.model.encoder is not None:
        both = [(one.given, one.folder) for one in starting.parts(recipe)]
        parts = {given: manifest.tree_hashes(place, place) if place else None for given, place in both}
        facts["model"] = {"name": name.given, "revision": recipe.model.revision, "files": None, "parts": parts}
    elif words is not name:
        facts["tokenizer"] = {"name": words.given, "files": word_hashes}
    if (given := recipe.model.vectors) is not None:
        facts["vectors"] = {"name": given, "sha256": manifest.file_hash(vectors.file_of(given))}
    if (folder / "run.json").exists():
        console.note(f"{folder.path}: the run there did not finish; it starts again from its first step")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / "log.jsonl").unlink(missing_ok=True)
    manifest.begin(folder.path, text, facts)  # first: a folder with a recipe alone would be nobody's
    folder.started = True
    manifest.write_text(folder / "recipe.yaml", console.redacted(text))


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
    if said := task.tuned():
        console.note(said)


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
    if not ranks.first():
        return None
    held = baselines.answers(task, baseline_names(recipe, task), splits.train, rows)
    references, names = task.references(rows), metric_names(recipe, task)
    report = judge(task, names, split, references, answers, held, by_label=recipe.eval.per_label)
    warn_of_thin_labels(task, references)
    write(folder.path, report, rows, references, answers)
    return report
