"""One run, top to bottom: read, load, train, judge, save, prove, seal."""

from __future__ import annotations

import copy
import json
import os
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import console, tasks
from llmkit.data.corpus import stream
from llmkit.data.prepare import Splits, read_splits, source_name
from llmkit.data.row_errors import counted
from llmkit.errors import OutputError, UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import baseline_names, metric_names
from llmkit.evaluation.score_report import Report, judge, warn_of_thin_labels, write
from llmkit.evaluation.scoring import check_scripts, load_scripts
from llmkit.recipe import report_to
from llmkit.recipe.load import dump, load_recipe, values_of
from llmkit.runs import distributed, manifest
from llmkit.runs import folder as folders
from llmkit.runs.folder import RunFolder
from llmkit.runs.recipe_diff import Asked
from llmkit.schema import Recipe
from llmkit.tasks.base import Encoded, Task
from llmkit.training.checkpoints import provenance
from llmkit.training.checkpoints import resume as resume_run
from llmkit.training.processes import signals
from llmkit.training.setup import features as setup_features
from llmkit.training.setup import model as starting
from llmkit.training.setup.prepared import Start

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmkit.models.load import Loaded
    from llmkit.training.processes.signals import Stop

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

    Raises an LlmkitError for whatever is wrong; a refused run leaves nothing behind. SIGTERM, SIGUSR1 and SIGHUP end it
    with Stopped, Ctrl-C with KeyboardInterrupt, after a checkpoint of the step that they come in.
    """
    distributed.join()
    with signals.listening() as stop:
        asked, step = taken_up(recipe, overrides, task, resume, words)
        try:
            start = prepare(asked, allow_change)
        except folders.FinishedError:
            path = Path(asked.output_dir or "").expanduser()
            resume_run.refuse_other_data(path)
            shutil.rmtree(path / folders.CHECKPOINTS, ignore_errors=True)  # it was killed as it removed them
            console.note(f"{path}: this run is finished; nothing was left to do")
            return Run(path, None)
        with opened(start) as folder, distributed.naming_the_lost():
            try:
                return carry_out(start, folder, stop, step)
            finally:
                if distributed.first() and not (folder / "run.json").exists():  # the Trainer has made it already
                    shutil.rmtree(folder / folders.CHECKPOINTS, ignore_errors=True)
                if folder.started and not manifest.read(folder.path)["sealed"]:
                    console.note(resume_run.how(folder.path))
                if stop.left:  # the first process has said what there is to say
                    distributed.meet("left")


@contextmanager
def opened(start: Start) -> Iterator[RunFolder]:
    """The run folder. Of several processes the first makes and locks it; all must see it, and the others only read."""
    with start.folder() if distributed.first() else nullcontext(RunFolder(start.path)) as mine:
        path = distributed.from_first(mine.path)
        folder = mine if distributed.first() else RunFolder(path)
        blind = [rank for rank, seen in enumerate(distributed.gathered(folder.path.is_dir())) if not seen]
        if blind:
            what = f"{folder.path}: rank {blind[0]} of {distributed.size()} does not see it"
            raise OutputError(what, "name an --output-dir on a disk that all machines share")
        yield folder


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
    path, step = resume_run.place_of(resume)
    if recipe is None and not overrides and not any(value is not None for value in words.values()):
        return resume_run.recipe_of(path), step
    asked = named(recipe, overrides, task, words)
    resume_run.refuse_two_folders(path, asked.output_dir)
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
    connect(recipe)
    task = tasks.load(recipe.task)(recipe.options)
    report_to.check(recipe.train.hf.get("report_to", "none"))
    recipe, model = starting.name_model(recipe, task)
    starting.tokenizer_name(recipe, model)  # that it is there
    check_scripts(metric_names(recipe, task))
    if recipe.data.streaming:
        stream.check(recipe.data, task.corpus, recipe.train.max_steps, recipe.train.dataloader_num_workers)
    asked = Asked(manifest.text_hash(dump(recipe)), values_of(recipe), tuple(allow_change))
    name = f"{task.name}-{source_name(recipe.data)}"
    path = distributed.by_first(lambda: folders.chosen(recipe.output_dir, name, asked))
    splits = read_splits(recipe.data, task)
    for text in splits.notes + task.fit(splits.train, splits.others):
        console.note(text)
    return Start(recipe, task, model, splits, name, path, asked)


def carry_out(start: Start, folder: RunFolder, stop: Stop, step: int | None = None) -> Run:
    """The story of a run in an open folder, from checked rows to the seal."""
    from llmkit.training.fit import learn, trainer_for
    from llmkit.training.save import room, saved_by_first

    task, splits = start.task, start.splits
    known = distributed.by_first(lambda: provenance.known(start, folder.path))
    recipe, loaded = starting.load(start.recipe, task, start.model, splits.train)
    with distributed.first_before_others() if task.corpus else nullcontext():  # it leaves the tokens in the cache
        encoded = setup_features.encode(recipe, task, loaded, splits)
    setup_features.start_head(task, loaded)
    recipe, precision = setup_features.settle(recipe, splits, loaded)
    distributed.by_first(lambda: folders.check_room(folder.path, room(recipe, loaded.model)))
    load_scripts(metric_names(recipe, task))
    trainer = trainer_for(recipe, task, loaded, splits, encoded, folder)
    console.note(trainer.shortcuts.said())
    about, resumed = distributed.by_first(lambda: provenance.begin(recipe, start, folder, known, precision, step))
    learn(
        trainer, folder, provenance.keeper(recipe, folder, about, stop, resumed), passed_through=bool(recipe.train.hf)
    )
    loaded = replace(loaded, model=trainer.whole())
    tune(recipe, task, loaded, splits, encoded)
    model = saved_by_first(recipe, task, loaded, splits.train, folder)
    report = judge_and_write(recipe, task, model, loaded, splits, encoded, folder)
    distributed.by_first(lambda: finish(folder))
    return Run(folder.path, report)


def finish(folder: RunFolder) -> None:
    """Seal the run; its checkpoints go."""
    manifest.seal(folder.path, OUTPUTS)
    shutil.rmtree(folder / folders.CHECKPOINTS, ignore_errors=True)


def connect(recipe: Recipe) -> None:
    """Let the processes that a launcher has started work together. Raises RecipeError where the machine cannot."""
    if distributed.size() == 1 and recipe.train.strategy == "ddp":
        return
    from llmkit.models.device import device
    from llmkit.training.arguments import rows_per_step
    from llmkit.training.processes import strategies

    on = device().type
    strategies.check(recipe.train.strategy, on, distributed.size())
    distributed.connect(recipe.train.ddp_timeout, on)
    rows = counted(rows_per_step(recipe.train), "row")
    console.note(f"{distributed.size()} processes ({recipe.train.strategy}): each step's {rows} divided among them")


def tune(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits, encoded: dict[str, Encoded]) -> None:
    """Let the task learn from the validation rows, by the weights that were kept, what its answers need."""
    from llmkit.inference.batched import answer

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
    from llmkit.inference.batched import answer

    if not splits.others:
        console.note("neither test nor validation rows: nothing was scored")
        return None
    split, rows = splits.judged()
    features = encoded[split].features
    with console.progress(f"scoring {split}", len(rows)) as advance:
        answers = answer(
            task, model, loaded.tokenizer, features, recipe.eval.batch_size, recipe.eval.precision, advance
        )
    if not distributed.first():
        return None
    held = baselines.answers(task, baseline_names(recipe, task), splits.train, rows)
    references, names = task.references(rows), metric_names(recipe, task)
    report = judge(task, names, split, references, answers, held, by_label=recipe.eval.per_label)
    warn_of_thin_labels(task, references)
    write(folder.path, report, rows, references, answers)
    return report
