"""Training run from start to end: read, load, train, save, verify, score, seal."""

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
from llmkit.data.prepare import Splits, get_source_name, read_splits
from llmkit.errors import OutputError, UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import choose_baselines, choose_metrics
from llmkit.evaluation.foreign_metrics import check_metric_scripts, load_metric_scripts
from llmkit.evaluation.score_report import Report, score_report, warn_of_rare_labels, write_report
from llmkit.recipe import report_to
from llmkit.recipe.load import dump_recipe, get_recipe_values, load_recipe
from llmkit.runs import distributed, manifest
from llmkit.runs import folder as folders
from llmkit.runs.folder import RunFolder
from llmkit.runs.recipe_diff import RequestedRecipe
from llmkit.schema import Recipe
from llmkit.tasks.base import EncodedRows, Task
from llmkit.training.checkpoints import provenance
from llmkit.training.checkpoints import resume as resume_run
from llmkit.training.processes import signals
from llmkit.training.setup import features as setup_features
from llmkit.training.setup import model as setup_model
from llmkit.training.setup.prepared import PreparedRun

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmkit.models.load import LoadedModel
    from llmkit.training.processes.signals import StopRequest

RUN_OUTPUTS = ("recipe.yaml", "model", "metrics.json", "predictions.jsonl", "log.jsonl")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder and its report."""

    path: Path
    report: Report | None  # None without test and validation rows, or if the run was finished before

    def scores(self) -> dict[str, Any]:
        """Return the content of metrics.json; empty without test and validation rows."""
        path = self.path / "metrics.json"
        scores: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return scores


def train(
    recipe: str | Path | Recipe | None = None,
    *overrides: str,
    task: str | None = None,
    resume: str | Path | None = None,
    allow_change: Collection[str] = (),
    **flags: Any,
) -> Run:
    """Train a recipe and return the finished run.

    `recipe` is a file, the name of a shipped recipe, or None; `overrides` are KEY=VALUE texts and `flags` the flags of
    the command line (model, train, validation, test, text, label, epochs, output_dir). If the output folder contains
    this run unfinished, it resumes from its newest valid checkpoint; `resume` names a run folder or a checkpoint and
    needs no other argument. `allow_change` names recipe keys that may differ from those of the unfinished run.

    Raises an LlmkitError for a mistake in the input; a rejected run leaves no files. SIGTERM, SIGUSR1 and SIGHUP end
    the run with RunInterrupted, Ctrl-C with KeyboardInterrupt, after a checkpoint of the current step.
    """
    distributed.join_processes()
    with signals.handle_signals() as stop:
        requested, step = resolve_recipe_and_step(recipe, overrides, task, resume, flags)
        try:
            prepared = prepare_run(requested, allow_change)
        except folders.RunFinishedError:
            path = Path(requested.output_dir or "").expanduser()
            resume_run.check_data_unchanged(path)
            # The checkpoints are still there if the run was killed while it removed them.
            shutil.rmtree(path / folders.CHECKPOINTS_FOLDER, ignore_errors=True)
            console.print_message(f"{path}: this run is finished; nothing to do")
            return Run(path, None)
        with open_folder_on_main(prepared) as folder, distributed.report_lost_rank():
            try:
                return train_prepared_run(prepared, folder, stop, step)
            finally:
                # The Trainer creates the checkpoints folder before run.json exists.
                if distributed.is_main_process() and not (folder / "run.json").exists():
                    shutil.rmtree(folder / folders.CHECKPOINTS_FOLDER, ignore_errors=True)
                if folder.started and not manifest.read_manifest(folder.path)["sealed"]:
                    console.print_message(resume_run.format_resume_hint(folder.path))
                if stop.committed:  # exit after the main process has printed its messages
                    distributed.barrier("left")


@contextmanager
def open_folder_on_main(prepared: PreparedRun) -> Iterator[RunFolder]:
    """Open the run folder: the main process creates and locks it, the other ranks only read it.

    Raises OutputError if a rank does not see the folder.
    """
    with prepared.open_folder() if distributed.is_main_process() else nullcontext(RunFolder(prepared.path)) as mine:
        path = distributed.broadcast(mine.path)
        folder = mine if distributed.is_main_process() else RunFolder(path)
        missing = [rank for rank, seen in enumerate(distributed.all_gather(folder.path.is_dir())) if not seen]
        if missing:
            what = f"{folder.path}: rank {missing[0]} of {distributed.world_size()} does not see it"
            raise OutputError(what, "name an --output-dir on a disk that all machines share")
        yield folder


def resolve_recipe_and_step(
    recipe: str | Path | Recipe | None,
    overrides: Sequence[str],
    task: str | None,
    resume: str | Path | None,
    flags: dict[str, Any],
) -> tuple[Recipe, int | None]:
    """Return the recipe that the arguments of `train` describe, and the step if they name a checkpoint."""
    if resume is None:
        return resolve_recipe(recipe, overrides, task, flags), None
    path, step = resume_run.parse_resume_path(resume)
    if recipe is None and not overrides and not any(value is not None for value in flags.values()):
        return resume_run.load_run_recipe(path), step
    requested = resolve_recipe(recipe, overrides, task, flags)
    resume_run.check_output_dir_matches(path, requested.output_dir)
    return requested.model_copy(update={"output_dir": str(path)}), step


def resolve_recipe(
    recipe: str | Path | Recipe | None, overrides: Sequence[str], task: str | None, flags: dict[str, Any]
) -> Recipe:
    """Return the recipe that the arguments of `train` describe."""
    if isinstance(recipe, Recipe):
        if overrides or task or flags:
            raise UsageError("a Recipe object cannot be combined with overrides", "pass the overrides to load_recipe")
        return recipe
    flags = {word: os.fspath(value) if isinstance(value, os.PathLike) else value for word, value in flags.items()}
    return load_recipe(recipe, overrides, task=task, **flags)


def prepare_run(recipe: Recipe, allow_change: Collection[str] = ()) -> PreparedRun:
    """Make every check that needs no model, read the rows, and print notes on them."""
    connect_processes(recipe)
    task = tasks.load_task(recipe.task)(recipe.options)
    report_to.check_trackers(recipe.train.hf.get("report_to", "none"))
    recipe, model = setup_model.choose_model(recipe, task)
    setup_model.resolve_tokenizer_ref(recipe, model)  # raises an error if it is missing
    check_metric_scripts(choose_metrics(recipe, task), task)
    if recipe.data.streaming:
        stream.check_streaming(recipe.data, task.is_corpus, recipe.train.max_steps, recipe.train.dataloader_num_workers)
    requested = RequestedRecipe(manifest.hash_text(dump_recipe(recipe)), get_recipe_values(recipe), tuple(allow_change))
    name = f"{task.name}-{get_source_name(recipe.data)}"
    path = distributed.on_main(lambda: folders.choose_run_folder(recipe.output_dir, name, requested))
    splits = read_splits(recipe.data, task)
    for text in splits.notes + task.fit(splits.train, splits.holdout):
        console.print_message(text)
    return PreparedRun(recipe, task, model, splits, name, path, requested)


def train_prepared_run(prepared: PreparedRun, folder: RunFolder, stop: StopRequest, step: int | None = None) -> Run:
    """Run all stages in an open folder, from the checked rows to the sealed run."""
    from llmkit.training.fit import build_trainer, fit
    from llmkit.training.save import estimate_disk_bytes, save_on_main

    task, splits = prepared.task, prepared.splits
    inputs = distributed.on_main(lambda: provenance.check_provenance(prepared, folder.path))
    recipe, loaded = setup_model.load_run_model(prepared.recipe, task, prepared.model, splits.train)
    # The main process fills the token cache of a corpus for the others.
    with distributed.main_process_first() if task.is_corpus else nullcontext():
        encoded = setup_features.encode_splits(recipe, task, loaded, splits)
    setup_features.init_output_head(task, loaded)
    recipe, precision = setup_features.resolve_settings(recipe, splits, loaded)
    distributed.on_main(lambda: folders.check_free_space(folder.path, estimate_disk_bytes(recipe, loaded.model)))
    load_metric_scripts(choose_metrics(recipe, task))
    trainer = build_trainer(recipe, task, loaded, splits, encoded, folder)
    console.print_message(trainer.fast_path.describe())
    step_size = trainer.step_collator.step_size
    console.print_message(step_size.describe(distributed.world_size(), recipe.train.strategy))
    about, resumed = distributed.on_main(
        lambda: provenance.write_run_record(recipe, prepared, folder, inputs, precision, step)
    )
    fit(
        trainer,
        folder,
        provenance.build_checkpoint_policy(recipe, folder, about, stop, resumed),
        has_hf_keys=bool(recipe.train.hf),
    )
    loaded = replace(loaded, model=trainer.get_full_model())
    calibrate_task(recipe, task, loaded, splits, encoded)
    model = save_on_main(recipe, task, loaded, splits.train, folder)
    report = score_and_write(recipe, task, model, loaded, splits, encoded, folder)
    distributed.on_main(lambda: finish_run(folder))
    return Run(folder.path, report)


def finish_run(folder: RunFolder) -> None:
    """Seal the run and remove its checkpoints."""
    manifest.seal_manifest(folder.path, RUN_OUTPUTS)
    shutil.rmtree(folder / folders.CHECKPOINTS_FOLDER, ignore_errors=True)


def connect_processes(recipe: Recipe) -> None:
    """Connect the processes that a launcher has started. Raises RecipeError if the strategy does not work here."""
    if distributed.world_size() == 1 and recipe.train.strategy == "ddp":
        return
    from llmkit.models.device import get_device
    from llmkit.training.processes import strategies

    on = get_device().type
    strategies.check_strategy(recipe.train.strategy, on, distributed.world_size())
    distributed.init_process_group(recipe.train.ddp_timeout, on)


def calibrate_task(
    recipe: Recipe, task: Task, loaded: LoadedModel, splits: Splits, encoded: dict[str, EncodedRows]
) -> None:
    """Let the task calibrate its decision rule on the validation rows with the final weights."""
    from llmkit.inference.batched import predict_batches

    if not task.needs_calibration:
        return
    if "validation" not in splits.holdout:
        console.print_message("no validation rows: thresholds are not tuned")
        return
    # bf16 weights predict as in `llmkit predict`: converted to fp32.
    model = loaded.model if recipe.model.dtype == "float32" else copy.deepcopy(loaded.model).float()
    features = encoded["validation"].features
    predictions = predict_batches(
        task, model, loaded.tokenizer, features, recipe.eval.batch_size, recipe.eval.precision
    )
    task.calibrate(task.references(splits.holdout["validation"]), predictions)
    if note := task.calibration_note():
        console.print_message(note)


def score_and_write(
    recipe: Recipe,
    task: Task,
    model: PreTrainedModel,
    loaded: LoadedModel,
    splits: Splits,
    encoded: dict[str, EncodedRows],
    folder: RunFolder,
) -> Report | None:
    """Score the saved model and the baselines on test (else validation), and write the report and the predictions."""
    from llmkit.inference.batched import predict_batches

    if not splits.holdout:
        console.print_message("neither test nor validation rows: nothing was scored")
        return None
    split, rows = splits.scored_split()
    features = encoded[split].features
    with console.show_progress(f"scoring {split}", len(rows)) as advance:
        predictions = predict_batches(
            task, model, loaded.tokenizer, features, recipe.eval.batch_size, recipe.eval.precision, advance
        )
    if not distributed.is_main_process():
        return None
    baseline_predictions = baselines.predict_baselines(task, choose_baselines(recipe, task), splits.train, rows)
    references, names = task.references(rows), choose_metrics(recipe, task)
    report = score_report(
        task, names, split, references, predictions, baseline_predictions, by_label=recipe.eval.per_label
    )
    warn_of_rare_labels(task, references)
    write_report(folder.path, report, rows, references, predictions)
    return report
