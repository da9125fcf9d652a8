"""Scores of a saved model: `llmkit eval` and `llmkit.evaluate`."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from llmkit import console
from llmkit.data import leaks
from llmkit.data.prepare import Splits, read_splits
from llmkit.data.row_errors import join_names
from llmkit.data.rows import Rows
from llmkit.errors import DataError, LlmkitError, ModelError, OutputError, UsageError, suggest_spelling
from llmkit.evaluation import baselines
from llmkit.evaluation.label_mapping import LabelMap, check_label_map, map_references, match_labels
from llmkit.evaluation.score_report import Report, score_report, warn_of_rare_labels, write_report
from llmkit.evaluation.scoring import check_metric_scripts, load_metric_scripts, split_foreign_metrics
from llmkit.inference.load_saved import SavedModel, check_prediction_options, load_saved_model
from llmkit.inference.predict import get_input_column, map_input_columns, read_input_rows
from llmkit.runs import folder, manifest
from llmkit.schema import Recipe
from llmkit.tasks.base import Prediction, Task


@dataclass(frozen=True)
class EvaluationRequest:
    """What is asked of a model, in the words of `evaluate`."""

    data: Any = None
    text: str | None = None
    label: str | None = None
    metrics: Sequence[str] = ()
    batch_size: int | None = None
    precision: str | None = None
    task: str | None = None
    keys: Sequence[str] = ()
    label_map: LabelMap = ()
    per_label: bool = False
    base: str | None = None

    def check(self) -> None:
        """Raise UsageError or MissingInputError for what is wrong before any model is looked at."""
        check_prediction_options(self.batch_size, self.precision)
        check_label_map(self.label_map)
        check_metric_scripts(self.metrics)

    def check_task(self, task: Task) -> None:
        """Raise UsageError for a metric or a label that the task has not, and what `load_scripts` raises."""
        if self.label is not None and task.target is None:
            raise UsageError(f"--label {self.label}: the model reads texts alone", "leave it out")
        for name in split_foreign_metrics(self.metrics)[0]:
            if name not in task.known_metrics:
                raise UsageError(f"--metric {name}: unknown", suggest_spelling(name, task.known_metrics))
        load_metric_scripts(self.metrics)


class Evaluated(NamedTuple):
    """What a model said of some rows, and the report on it."""

    model: str
    task: Task
    labels: Sequence[str]  # as it was opened: rows may tell fewer apart
    tokenizer_json: str  # of a task of tokens what decides them
    metric_names: Sequence[str]  # of the metrics, as they were asked for
    rows: Rows
    references: list[Any]
    predictions: Sequence[Prediction]
    report: Report


def evaluate(
    model: str,
    data: Any = None,
    *,
    text: str | None = None,
    label: str | None = None,
    metrics: Sequence[str] = (),
    batch_size: int | None = None,
    precision: str | None = None,
    output_dir: str | None = None,
    task: str | None = None,
    keys: Sequence[str] = (),
    label_map: Mapping[str, str] | Sequence[str] = (),
    per_label: bool = False,
    base: str | None = None,
) -> dict[str, Any]:
    """Score a run or any Hugging Face folder, as metrics.json has it: on `data`, or on the run's own test rows.

    `text` and `label` name the columns of `data`, `keys` say more of how it is read ("data.delimiter=;"), `label_map`
    which label of the model each label of the data means; `per_label` asks for the scores of each label;
    `base` is where an adapter's base is, where it moved;
    `output_dir` is a fresh folder for metrics.json and predictions.jsonl. Raises DataError for labels that the model
    does not know, UsageError where no rows are named.
    """
    asked = EvaluationRequest(data, text, label, metrics, batch_size, precision, task, keys, label_map, per_label, base)
    return run_evaluation(os.fspath(model), asked, output_dir).as_dict()


def run_evaluation(model: str, asked: EvaluationRequest, output_dir: str | None = None) -> Report:
    """The work of `evaluate`."""
    asked.check()
    target = check_output_folder(output_dir)
    with console.print_messages_once():
        judged = evaluate_model(model, asked)
    write_evaluation(judged, target)
    return judged.report


def evaluate_model(model: str, asked: EvaluationRequest, first: Evaluated | None = None) -> Evaluated:
    """The model's answers to the rows, judged. After a `first` model to the same rows, and without baselines."""

    def check(task: Task) -> None:
        asked.check_task(task)
        if first is not None:
            check_comparable(first, model, task)

    saved = load_saved_model(model, asked.task, asked.keys, check, asked.base)
    task, recipe = saved.task, saved.recipe
    labels = list(task.labels)
    words = saved.tokenizer.backend_tokenizer.to_str() if task.is_corpus else ""
    if first is not None and words != first.tokenizer_json:
        what = f"{model} has another tokenizer than {first.model}: losses a token of two vocabularies do not compare"
        raise ModelError(what, "compare models of one tokenizer, or look at each beside its own unigram baseline")
    named = load_evaluation_rows(saved, asked, first)
    splits = None if recipe is None or first else load_run_splits(saved, recipe, needed=named is None)
    if named is None:
        if splits is None:
            raise UsageError(f"{saved.name}: no run, so it has no rows of its own", "name the rows with --data FILE")
        named = splits.scored_split()
    split, rows = named
    spelled = task.references(rows)
    if first is not None:
        check_same_labels(first, model, task)
    label_map = match_labels(task, rows, spelled, asked.label_map)
    references = map_references(spelled, label_map)
    answers = predict_evaluation_rows(saved, asked, rows)
    held = (
        {} if splits is None else baselines.predict_baselines(task, choose_baselines(recipe, task), splits.train, rows)
    )
    if task.is_corpus and splits is None and first is None:
        held = {
            f"{name} of these": said
            for name, said in baselines.predict_baselines(task, task.baselines, rows, rows).items()
        }
    known = count_training_rows(task, splits, rows) if asked.data is not None and splits is not None else 0
    by_label = asked.per_label or (recipe is not None and recipe.eval.per_label)
    names = (
        first.metric_names if first else list(asked.metrics) or drop_foreign_metrics(choose_metrics(recipe, task), task)
    )
    report = score_report(task, names, split, references, answers, held, by_label=by_label, label_map=label_map)
    if first is None:
        warn_of_rare_labels(task, references)
    report = replace(report, learned=known)
    return Evaluated(model, task, labels, words, names, rows, references, answers, report)


def count_training_rows(task: Task, splits: Splits, rows: Rows) -> int:
    """The number of rows that the model was trained on, which is said. The lines of a corpus are no leak."""
    words = [word for word in splits.train.column_mapping if word != task.target and word in rows.column_mapping]
    if task.is_corpus or not words:
        return 0
    number, said = leaks.check_trained_overlap(splits.train, rows, words)
    if number:
        console.print_message(said)
    return number


def check_comparable(first: Evaluated, model: str, task: Task) -> None:
    """Raise ModelError where a further model does not answer the question of the first."""
    one = first.task
    if one.name != task.name:
        what = f"{model} is a model of the task {task.name}, and {first.model} of {one.name}"
        raise ModelError(what, f"--task {one.name} opens both as that, where {model} can be")
    if one.labels and task.labels and set(task.labels) != set(first.labels):
        check_same_labels(first, model, task)
    if one.known_metrics != task.known_metrics:
        metrics = f"{join_names(task.metrics)}, not by {join_names(one.metrics)}"
        what = f"{model} answers another kind of question than {first.model}: it is scored by {metrics}"
        raise ModelError(what, "compare models of one kind")


def check_same_labels(first: Evaluated, model: str, task: Task) -> None:
    """Raise ModelError where a further model does not answer with the labels of the first."""
    one = first.task
    if set(one.labels) != set(task.labels):
        what = f"{model} has the labels {join_names(task.labels)}, and {first.model} {join_names(one.labels)}"
        raise ModelError(what, "compare models of the same labels")


def load_evaluation_rows(
    saved: SavedModel, asked: EvaluationRequest, first: Evaluated | None
) -> tuple[str, Rows] | None:
    """The named rows, or those of the first model, as this model reads them, and their name; None: the run's own."""
    if asked.data is not None:
        named = ((get_input_column(saved), asked.text), (saved.task.target, asked.label))
        given = {word: column for word, column in named if word and column}
        return str(asked.data), read_input_rows(saved, asked.data, given, with_target=True)
    if first is not None:
        words = (
            {}
            if saved.run
            else {word: own for word, own in first.rows.column_mapping.items() if word in saved.task.columns}
        )
        return first.report.split, map_input_columns(saved, first.rows.with_column_mapping({}), words, with_target=True)
    return None


def predict_evaluation_rows(saved: SavedModel, asked: EvaluationRequest, rows: Rows) -> list[Prediction]:
    """The model's answers, with the batch size and precision that were asked for, else the run's."""
    from llmkit.inference.batched import predict_batches

    task, own = saved.task, saved.recipe.eval if saved.recipe else None
    # Without the target: its labels may be other words than the model's.
    inputs = rows.with_column_mapping(
        {word: column for word, column in rows.column_mapping.items() if word != task.target}
    )
    task.set_metrics(asked.metrics or choose_metrics(saved.recipe, task))
    features = task.encode(inputs, saved.tokenizer, saved.max_length).features
    batch_size = asked.batch_size or (own.batch_size if own else 64)
    precision = asked.precision or (own.precision if own else "fp32")
    with console.show_progress("evaluating", len(rows)) as advance:
        return predict_batches(task, saved.model, saved.tokenizer, features, batch_size, precision, advance)


def write_evaluation(judged: Evaluated, target: Path | None) -> None:
    """Write both files of it into the folder, where one was named."""
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        write_report(target, judged.report, judged.rows, judged.references, judged.predictions)


def choose_metrics(recipe: Recipe | None, task: Task) -> list[str]:
    """The metrics that a recipe names, else the task's own."""
    return list(recipe.eval.metrics if recipe and recipe.eval.metrics else task.metrics)


def drop_foreign_metrics(names: Sequence[str], task: Task) -> list[str]:
    """The names that run no foreign code: a run may come from a stranger. Says which are left out."""
    own, foreign = split_foreign_metrics(names)
    if foreign:
        again = " ".join(f"--metric {name}" for name in foreign)
        console.print_message(f"left out: {', '.join(foreign)}, code that only the run's recipe names; {again} runs it")
    return own or list(task.metrics)


def choose_baselines(recipe: Recipe | None, task: Task) -> Sequence[str]:
    """The baselines that a recipe names, else the task's own."""
    return task.baselines if recipe is None or recipe.eval.baselines is None else recipe.eval.baselines


def load_run_splits(saved: SavedModel, recipe: Recipe, *, needed: bool) -> Splits | None:
    """The run's own rows, split as they were. Where files are gone or changed: an error if `needed`, else a note."""
    assert saved.run is not None
    try:
        splits = read_splits(recipe.data, saved.task)
        recorded = {one["name"]: one["sha256"] for one in manifest.read_manifest(saved.run)["data"]}
        for file in splits.fingerprint_sources():
            if recorded.get(file["name"]) != file["sha256"]:
                raise DataError(
                    f"{file['name']}: not the file that {saved.run} was trained on", "name the rows with --data"
                )
    except LlmkitError as fault:
        if needed:
            raise
        console.print_message(f"no baselines: {fault.message}")
        return None
    return splits


def check_output_folder(name: str | None) -> Path | None:
    """The folder to write into, fresh or empty; never one that holds a run."""
    if name is None:
        return None
    path = Path(name).expanduser()
    try:
        taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as fault:
        raise OutputError(f"{path}: {fault.strerror}", "name another -o FOLDER") from None
    if taken:
        raise OutputError(f"{path}: not an empty folder", "name a fresh -o FOLDER")
    folder.remove_empty_folders(
        folder.create_missing_folders(path)
    )  # only tried: it is made when there is something to write
    return path
