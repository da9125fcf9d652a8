"""One run, top to bottom: read, load, train, judge, save, prove, seal."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmkit import console, tasks
from llmkit.data import corpus
from llmkit.data.faults import counted
from llmkit.data.prepare import Splits, read_splits, source_name
from llmkit.errors import ModelError, RecipeError, UsageError
from llmkit.evaluation import baselines
from llmkit.evaluation.evaluate import baseline_names, metric_names
from llmkit.evaluation.judge import Report, judge, warn_of_thin_labels, write
from llmkit.evaluation.scores import check_scripts, load_scripts
from llmkit.models import shapes
from llmkit.models.names import ModelName, default_name, resolve
from llmkit.recipe import report_to
from llmkit.recipe.load import dump, load_recipe
from llmkit.recipe.schema import Recipe
from llmkit.runs import folder as folders
from llmkit.runs import launchers, manifest
from llmkit.tasks.base import Encoded, Feature, Task

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from llmkit.models.load import Loaded
    from llmkit.runs.folder import RunFolder

OUTPUTS = ("recipe.yaml", "model", "metrics.json", "predictions.jsonl", "log.jsonl")
UNKNOWN = 0.1  # share of unknown tokens from which the tokenizer may be of another language
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
    start = prepare(named(recipe, overrides, task, words))
    with start.folder() as folder:
        try:
            return carry_out(start, folder)
        finally:
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
    refuse_many_processes()
    task = tasks.load(recipe.task)(recipe.options)
    report_to.check(recipe.train.hf.get("report_to", "none"))
    recipe, model = name_model(recipe)
    tokenizer_name(recipe, model)  # that it is there
    check_scripts(metric_names(recipe, task))
    if recipe.data.streaming:
        corpus.check(recipe.data, task.corpus, recipe.train.max_steps, recipe.train.dataloader_num_workers)
    fingerprint = manifest.text_hash(dump(recipe))
    name = f"{task.name}-{source_name(recipe.data)}"
    path = folders.chosen(recipe.output_dir, name, fingerprint)
    splits = read_splits(recipe.data, task)
    for text in splits.notes + task.fit(splits.train, splits.others):
        console.note(text)
    return Start(recipe, task, model, splits, name, path, fingerprint)


def carry_out(start: Start, folder: RunFolder) -> Run:
    """The story of a run in an open folder, from checked rows to the seal."""
    from llmkit.training.learn import learn, trainer_for
    from llmkit.training.prove import save_and_prove, size_of

    task, splits = start.task, start.splits
    recipe, loaded = load(start.recipe, task, start.model)
    encoded = encode(recipe, task, loaded, splits)
    start_head(task, loaded)
    recipe, precision = settle(recipe, splits, loaded)
    folders.check_room(folder.path, COPIES * size_of(loaded.model))
    load_scripts(metric_names(recipe, task))
    trainer = trainer_for(recipe, task, loaded, splits, encoded, folder)
    console.note(trainer.shortcuts.said())
    begin(recipe, task, start.model, folder, splits, start.fingerprint, precision)
    learn(trainer, folder, passed_through=bool(recipe.train.hf))
    tune(recipe, task, loaded, splits, encoded)
    model = save_and_prove(recipe, task, loaded, splits.train, folder)
    report = judge_and_write(recipe, task, model, loaded, splits, encoded, folder)
    manifest.seal(folder.path, OUTPUTS)
    return Run(folder.path, report)


def refuse_many_processes() -> None:
    """Raise UsageError under a launcher: each process would train a model of its own on the same rows."""
    if found := launchers.several(os.environ):
        said = ", ".join(f"{name}={size}" for name, size in found.items())
        mend = f"this version trains on one: start it without a launcher, or unset {' '.join(found)}"
        raise UsageError(f"started as several processes ({said})", mend)


def name_model(recipe: Recipe) -> tuple[Recipe, ModelName]:
    """The recipe with a model in it, and where that model is."""
    if recipe.model.from_config is not None:
        shapes.check(recipe.model.from_config)
        return recipe, ModelName(recipe.model.from_config, "", why="fresh weights of this shape")
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

    from llmkit.models import heads
    from llmkit.models import load as models

    console.note(f"model: {name.given}" + (f" ({name.why})" if name.why else ""))
    tokenizer = models.load_tokenizer(tokenizer_name(recipe, name), task.needs)
    head, section = task.model(), recipe.model
    if section.from_config is not None:
        from llmkit.models.presets import fresh_model

        set_seed(recipe.train.seed)
        changes = section.config | head.config
        loaded = fresh_model(name, head.auto_class, changes, tokenizer, section.max_length, section.dtype)
        said_of(loaded)
        return recipe, loaded
    if section.tokenizer is not None:
        note_other_words(tokenizer, name, section.tokenizer)
    config = models.load_config(name, section.config)
    models.can_do(name, config, head.auto_class)
    longest = models.longest(config, tokenizer) or section.max_length
    if "max_length" not in section.model_fields_set and section.max_length > longest:
        console.note(f"max_length: {longest}, as long as the model can read")
        recipe = recipe.model_copy(update={"model": section.model_copy(update={"max_length": longest})})
    models.check_length(name, config, tokenizer, recipe.model.max_length)
    set_seed(recipe.train.seed)
    changes = section.config | head.config
    loaded = models.load_model(name, head.auto_class, changes, dtype=section.dtype, tokenizer=tokenizer)
    if head.units is not None and recipe.model.dtype != "float32":
        raise RecipeError(f"model.dtype: {recipe.model.dtype} holds a number to three digits", "leave it out")
    if head.units is not None:  # a head that was trained before answers in the user's units
        mean, spread = head.units
        fresh_head = any(f"{path}.weight" in loaded.fresh for path, _ in heads.output_layers(loaded.model))
        heads.rescale(loaded.model, 1.0 if fresh_head else 1 / spread, 0.0 if fresh_head else -mean / spread)
    said_of(loaded)
    return recipe, loaded


def note_other_words(tokenizer: PreTrainedTokenizerBase, name: ModelName, given: str) -> None:
    """Say where a tokenizer numbers its words in another way than the model's own: each has another's embedding."""
    from llmkit.models import load as models

    try:
        own = models.load_tokenizer(name, ()).get_vocab()
    except ModelError:  # the model came without one
        return
    words = tokenizer.get_vocab()
    same = sum(own.get(word) == number for word, number in words.items())
    if same < len(words):
        mend = "--from-config begins with fresh weights"
        console.note(f"{given}: {len(words) - same:,} of its {len(words):,} pieces are others than in {name.given}, "
                     f"whose embeddings they take over; {mend}")  # fmt: skip


def tokenizer_name(recipe: Recipe, name: ModelName) -> ModelName:
    """Where the tokenizer is: the model's own unless the recipe names another."""
    return name if recipe.model.tokenizer is None else resolve(recipe.model.tokenizer, what="tokenizer")


def said_of(loaded: Loaded) -> None:
    """Say how large the model is, and what of it is not from its files."""
    from llmkit.models import load as models

    size = loaded.model.num_parameters()
    dropped = f"; left out of the files: {models.modules(loaded.dropped)}" if loaded.dropped else ""
    fresh = f"; fresh: {'all' if all_fresh(loaded) else models.modules(loaded.fresh)}" if loaded.fresh else ""
    console.note(f"{f'{size / 1e6:.1f}M' if size >= 1e6 else f'{size:,}'} parameters{fresh}{dropped}")


def all_fresh(loaded: Loaded) -> bool:
    """Whether no weight is from files."""
    return len(loaded.fresh) == len(loaded.model.state_dict())


def encode(recipe: Recipe, task: Task, loaded: Loaded, splits: Splits) -> dict[str, Encoded]:
    """The features of every split; says what share max_length cuts."""
    task.ask(metric_names(recipe, task))
    length = recipe.model.max_length
    encoded = {"train": task.encode_train(splits.train, loaded.tokenizer, length)}
    encoded |= {name: task.encode(rows, loaded.tokenizer, length) for name, rows in splits.others.items()}
    cut, rows = sum(one.cut for one in encoded.values()), sum(len(one.features) for one in encoded.values())
    unknown = share_of(loaded.tokenizer.unk_token_id, (one.features for one in encoded.values()))
    if unknown > UNKNOWN:
        mend = "--model names a model" if recipe.model.tokenizer is None else "--tokenizer names one"
        console.note(f"the tokenizer does not know {unknown:.0%} of the tokens: {mend} of this language")
    if cut:
        console.note(f"max_length {recipe.model.max_length} cuts {cut:,} of {counted(rows, 'text')} ({cut / rows:.1%})")
    return encoded


def start_head(task: Task, loaded: Loaded) -> None:
    """Let a fresh head begin with what can be said without reading, where the task knows it."""
    from llmkit.models import heads

    head = task.model()
    if head.start is not None and heads.begin_at(loaded.model, loaded.fresh, head.start):
        console.note("the fresh head starts from the shares in the training rows")
    used, words = head.used or (0, 0)
    if 2 * used < words and all_fresh(loaded):
        mend = "a tokenizer with a smaller --vocab-size spends the weights better"
        console.note(f"the training rows hold {used:,} of the tokenizer's {words:,} pieces: {mend}")


def share_of(token: int | None, some: Iterable[Sequence[Feature]]) -> float:
    """The share of one token in all of the features."""
    import numpy as np

    found = total = 0
    for features in some:
        for feature in features:
            ids = np.asarray(feature["input_ids"])
            found, total = found + int(np.count_nonzero(ids == token)), total + len(ids)
    return found / max(1, total)


def settle(recipe: Recipe, splits: Splits, loaded: Loaded) -> tuple[Recipe, str]:
    """The recipe as it will be carried out (columns and precision in it), and a sentence on precision and threads."""
    import torch

    from llmkit.models.device import choose_precision, device

    hidden = getattr(loaded.model.config, "hidden_size", 0) or 0
    precision, why = choose_precision(recipe.train.precision, hidden, device())
    said = f"precision: {precision} ({why}), scores in {recipe.eval.precision}; {torch.get_num_threads()} threads"
    console.note(said)
    if "validation" not in splits.others:
        console.note("no validation rows: the last weights are kept")
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
    words = tokenizer_name(recipe, name)
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
    if words is not name:
        facts["tokenizer"] = {"name": words.given, "files": word_hashes}
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
