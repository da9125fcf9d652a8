"""One run, top to bottom: read, load, train, judge, save, prove, seal."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import console, tasks
from llmkit.data.prepare import Splits, read_splits, source_name
from llmkit.errors import InternalError, UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import Report, baseline_names, judge, metric_names, warn_of_thin_labels, write
from llmkit.models.names import ModelName, default_name, resolve
from llmkit.recipe.load import dump, load_recipe
from llmkit.recipe.schema import Recipe
from llmkit.runs import folder as folders
from llmkit.runs import manifest
from llmkit.tasks.base import Encoded, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from llmkit.models.load import Loaded
    from llmkit.runs.folder import RunFolder

OUTPUTS = ("recipe.yaml", "model", "metrics.json", "predictions.jsonl", "log.jsonl")
PROBE = 8  # rows that the saved model must answer as the trained one did
UNKNOWN = 0.1  # share of unknown tokens from which the tokenizer may be of another language
SAME = 1e-6  # how far a logit may move when a model is saved and loaded again


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
    if not isinstance(recipe, Recipe):
        recipe = load_recipe(recipe, overrides, task=task, **words)
    refuse_many_processes()
    kind = tasks.load(recipe.task)(recipe.options)
    recipe, model_name = name_model(recipe)
    fingerprint = manifest.text_hash(dump(recipe))
    path = folders.chosen(recipe.output_dir, f"{kind.name}-{source_name(recipe.data)}", fingerprint)
    splits = read_splits(recipe.data, kind)
    for text in splits.notes + kind.fit(splits.train, splits.others):
        console.note(text)
    with folders.open_folder(path, fingerprint) as folder:
        try:
            return carry_out(recipe, kind, model_name, splits, folder, fingerprint)
        finally:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            if folder.started and not manifest.read(path)["sealed"]:
                console.note(f"{path}: unfinished; the same command with --output-dir {path} starts it again")


def carry_out(
    recipe: Recipe, task: Task, model_name: ModelName, splits: Splits, folder: RunFolder, fingerprint: str
) -> Run:
    """The story of a run in an open folder, from checked rows to the seal."""
    recipe, loaded = load(recipe, task, model_name)
    encoded = encode(recipe, task, loaded, splits)
    recipe, precision = settle(recipe, splits, loaded)
    begin(recipe, task, model_name, folder, splits, fingerprint, precision)
    learn(recipe, task, loaded, splits, encoded, folder)
    model = save_and_prove(recipe, task, loaded, encoded, folder)
    report = judge_and_write(recipe, task, model, loaded, splits, encoded, folder)
    manifest.seal(folder.path, OUTPUTS)
    return Run(folder.path, report)


def refuse_many_processes() -> None:
    """Raise UsageError under a launcher: each process would train a model of its own on the same rows."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("started as several processes", "this version trains on one; start it without a launcher")


def name_model(recipe: Recipe) -> tuple[Recipe, ModelName]:
    """The recipe with a model in it, and where that model is."""
    if recipe.model.name is None:
        given, why = default_name()
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"name": given})})
        return recipe, replace(resolve(given, recipe.model.revision), why=why)
    return recipe, resolve(recipe.model.name, recipe.model.revision)


def load(recipe: Recipe, task: Task, name: ModelName) -> tuple[Recipe, Loaded]:
    """Tokenizer and model with the task's head, the fresh weights drawn from the recipe's seed.

    The recipe comes back with the model's own length where it named none and the default is too long.
    """
    from transformers import set_seed

    from llmkit.models import load as models

    console.note(f"model: {name.given}" + (f" ({name.why})" if name.why else ""))
    config = models.load_config(name)
    models.can_do(name, config, task.model().auto_class)
    tokenizer = models.load_tokenizer(name)
    longest = models.longest(config, tokenizer) or recipe.model.max_length
    if "max_length" not in recipe.model.model_fields_set and recipe.model.max_length > longest:
        console.note(f"max_length: {longest}, as long as the model can read")
        recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"max_length": longest})})
    models.check_length(name, config, tokenizer, recipe.model.max_length)
    head = task.model()
    set_seed(recipe.train.seed)
    loaded = models.load_model(name, head.auto_class, recipe.model.config | head.config, dtype=recipe.model.dtype)
    size = loaded.model.num_parameters()
    fresh = f"; fresh: {models.modules(loaded.fresh)}" if loaded.fresh else ""
    console.note(f"{f'{size / 1e6:.1f}M' if size >= 1e6 else f'{size:,}'} parameters{fresh}")
    return recipe, loaded


def encode(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits) -> dict[str, Encoded]:
    """The features of every split; says what share max_length cuts."""
    every = {"train": splits.train, **splits.others}
    encoded = {name: task.encode(rows, loaded.tokenizer, recipe.model.max_length) for name, rows in every.items()}
    cut, rows = sum(one.cut for one in encoded.values()), sum(len(one.features) for one in encoded.values())
    every_token = [token for one in encoded.values() for feature in one.features for token in feature["input_ids"]]
    unknown = every_token.count(loaded.tokenizer.unk_token_id) / max(1, len(every_token))
    if unknown > UNKNOWN:
        console.note(f"the tokenizer does not know {unknown:.0%} of the tokens: --model names a model of this language")
    if cut:
        console.note(f"max_length {recipe.model.max_length} cuts {cut:,} of {rows:,} texts ({cut / rows:.1%})")
    return encoded


def settle(recipe: Recipe, splits: Splits, loaded: Loaded) -> tuple[Recipe, str]:
    """The recipe as it will be carried out (columns and precision in it), and a sentence on precision and threads."""
    import torch

    from llmkit.models.device import choose_precision, device

    hidden = getattr(loaded.model.config, "hidden_size", 0) or 0
    precision, why = choose_precision(recipe.train.precision, hidden, device())
    said = f"precision: {precision} ({why}), scores in {recipe.eval.precision}; {torch.get_num_threads()} threads"
    console.note(said)
    data = recipe.data.model_copy(update={"columns": splits.columns})
    learning = recipe.train.model_copy(update={"precision": precision})
    return recipe.model_copy(update={"data": data, "train": learning}), said


def begin(
    recipe: Recipe, task: Task, name: ModelName, folder: RunFolder, splits: Splits, fingerprint: str, said: str
) -> None:
    """Write recipe.yaml and the unsealed run.json; from here on the folder is kept."""
    from llmkit.models.device import hardware

    task_file = Path(recipe.task) if recipe.task.endswith(".py") else None
    text = dump(recipe, [f"llmkit train {folder / 'recipe.yaml'} repeats this run", said])
    model_hashes = None if name.folder is None else manifest.tree_hashes(name.folder, name.folder)
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
    if (folder / "run.json").exists():
        console.note(f"{folder.path}: the run there did not finish; it starts again from its first step")
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
        (folder / "log.jsonl").unlink(missing_ok=True)
    folder.started = True
    manifest.write_text(folder / "recipe.yaml", console.redacted(text))
    manifest.begin(folder.path, text, facts)


def learn(
    recipe: Recipe, task: Task, loaded: Loaded, splits: Splits, encoded: dict[str, Encoded], folder: RunFolder
) -> None:
    """Train the model in place; it ends with the weights of the best checkpoint."""
    from transformers import EarlyStoppingCallback, PrinterCallback

    from llmkit.training.arguments import rows_at_once, training_arguments
    from llmkit.training.callbacks import Journal
    from llmkit.training.trainer import StepTrainer

    names = metric_names(recipe, task)
    if "validation" not in splits.others:
        quiet = {"eval_strategy": "no", "eval_steps": None}
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update=quiet)})
        console.note("no validation rows: the last weights are kept")
    arguments = training_arguments(
        recipe, folder.path, recipe.train.precision, names[0], names[0] not in task.lower_is_better
    )
    journal, patience = Journal(folder / "log.jsonl"), recipe.eval.early_stopping_patience
    stopping = [EarlyStoppingCallback(patience)] if patience and arguments.load_best_model_at_end else []
    judged = splits.others.get("validation")
    trainer = StepTrainer(
        loaded.model,
        arguments,
        task=task,
        tokenizer=loaded.tokenizer,
        train=encoded["train"].features,
        validation=encoded["validation"].features if judged is not None else [],
        references=task.references(judged) if judged is not None else [],
        metrics=names,
        rows_at_once=rows_at_once(recipe.train),
        max_length=recipe.model.max_length,
        eval_precision=recipe.eval.precision,
        callbacks=[journal, *stopping],
    )
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
    finally:
        journal.close()
    loaded.model.__dict__.pop("forward", None)  # the autocast that Accelerate put around it: judging is a new matter


def save_and_prove(
    recipe: Recipe, task: Task, loaded: Loaded, encoded: dict[str, Encoded], folder: RunFolder
) -> PreTrainedModel:
    """Write model/ and load it again in plain transformers; returns the reloaded model, in eval mode.

    Raises InternalError where its logits or label names are not those of the trained one.
    """
    import torch
    import transformers

    from llmkit.models import load as models

    probe = task.collator(loaded.tokenizer)(encoded["train"].features[:PROBE])
    inputs = {key: value.to(loaded.model.device) for key, value in probe.items() if key != "labels"}
    loaded.model.eval()
    models.save(loaded.model, loaded.tokenizer, folder / "model", recipe.model.max_length)
    auto_class = getattr(transformers, task.model().auto_class)
    with models.quiet():
        again = auto_class.from_pretrained(folder / "model", dtype=recipe.model.dtype).to(loaded.model.device).eval()
    with torch.inference_mode():
        moved = float((again(**inputs).logits - loaded.model(**inputs).logits).abs().max())
    if not moved <= SAME:
        raise InternalError(f"{folder / 'model'}: reloaded logits differ by {moved:.1e}", "report this as a bug")
    if again.config.id2label != loaded.model.config.id2label:
        raise InternalError(f"{folder / 'model'}: label names did not survive saving", "report this as a bug")
    return again


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
    report = judge(task, metric_names(recipe, task), split, rows, answers, held)
    warn_of_thin_labels(task, rows)
    write(folder.path, task, report, rows, answers)
    return report
