"""Evaluation of a saved model: `llmkit eval` and `llmkit.evaluate`."""

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
from llmkit.evaluation.foreign_metrics import check_metric_scripts, load_metric_scripts
from llmkit.evaluation.label_mapping import LabelMap, check_label_map, map_references, match_labels
from llmkit.evaluation.score_report import Report, score_report, warn_of_rare_labels, write_report
from llmkit.inference.load_saved import SavedModel, check_prediction_options, load_saved_model
from llmkit.inference.predict import get_input_column, map_input_columns, read_input_rows
from llmkit.recipe.metric_names import split_foreign_metrics
from llmkit.runs import folder, manifest
from llmkit.schema import Recipe
from llmkit.tasks.base import Prediction, Task


@dataclass(frozen=True)
class EvaluationRequest:
    """The arguments of `evaluate` for one model."""

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
        """Raise UsageError or MissingInputError for wrong arguments, before any model is opened."""
        check_prediction_options(self.batch_size, self.precision)
        check_label_map(self.label_map)
        check_metric_scripts(self.metrics)

    def check_task(self, task: Task) -> None:
        """Raise UsageError for a metric or label that the task does not have, and errors of `load_metric_scripts`."""
        if self.label is not None and task.target is None:
            raise UsageError(f"--label {self.label}: the model reads only texts", "leave it out")
        for name in split_foreign_metrics(self.metrics)[0]:
            if name not in task.known_metrics:
                raise UsageError(f"--metric {name}: unknown", suggest_spelling(name, task.known_metrics))
        check_metric_scripts(self.metrics, task)
        load_metric_scripts(self.metrics)


class Evaluated(NamedTuple):
    """A model's predictions for some rows, and the report on them."""

    model: str
    task: Task
    labels: Sequence[str]  # as loaded; the rows may have fewer
    tokenizer_json: str  # of a token task: its tokenizer, serialized
    metric_names: Sequence[str]  # as requested
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
    """Score a run or Hugging Face folder on `data`, or on the run's own test rows; return the content of metrics.json.

    `text` and `label` name the columns of `data`, `keys` are recipe keys for reading it ("data.delimiter=;"),
    `label_map` maps labels of the data to labels of the model, `per_label` adds the scores of each label, `base` is the
    new location of an adapter's base model that has moved, and `output_dir` is a new folder for metrics.json and
    predictions.jsonl. Raises DataError for labels that the model does not have, UsageError if there are no rows.
    """
    request = EvaluationRequest(
        data, text, label, metrics, batch_size, precision, task, keys, label_map, per_label, base
    )
    return run_evaluation(os.fspath(model), request, output_dir).as_dict()


def run_evaluation(model: str, request: EvaluationRequest, output_dir: str | None = None) -> Report:
    """Implement `evaluate`: evaluate the model and write the output folder."""
    request.check()
    target = check_output_folder(output_dir)
    with console.print_messages_once():
        evaluated = evaluate_model(model, request)
    write_evaluation(evaluated, target)
    return evaluated.report


def evaluate_model(model: str, request: EvaluationRequest, first: Evaluated | None = None) -> Evaluated:
    """Evaluate a model; after a `first` model, on the same rows and without baselines."""

    def check(task: Task) -> None:
        request.check_task(task)
        if first is not None:
            check_comparable(first, model, task)

    saved = load_saved_model(model, request.task, request.keys, check, request.base)
    task, recipe = saved.task, saved.recipe
    labels = list(task.labels)
    tokenizer_json = saved.tokenizer.backend_tokenizer.to_str() if task.is_corpus else ""
    if first is not None and tokenizer_json != first.tokenizer_json:
        what = (
            f"{model} has another tokenizer than {first.model}: losses per token of two vocabularies are not comparable"
        )
        raise ModelError(what, "compare models with one tokenizer, or each with its own unigram baseline")
    source = load_evaluation_rows(saved, request, first)
    splits = None if recipe is None or first else load_run_splits(saved, recipe, needed=source is None)
    if source is None:
        if splits is None:
            raise UsageError(f"{saved.name}: not a run, so it has no rows of its own", "name the rows with --data FILE")
        source = splits.scored_split()
    split, rows = source
    data_references = task.references(rows)
    if first is not None:
        check_same_labels(first, model, task)
    label_map = match_labels(task, rows, data_references, request.label_map)
    references = map_references(data_references, label_map)
    predictions = predict_evaluation_rows(saved, request, rows)
    baseline_predictions = (
        {} if splits is None else baselines.predict_baselines(task, choose_baselines(recipe, task), splits.train, rows)
    )
    if task.is_corpus and splits is None and first is None:
        fitted_here = baselines.predict_baselines(task, task.baselines, rows, rows)
        baseline_predictions = {f"{name} of these": predicted for name, predicted in fitted_here.items()}
    learned = count_training_rows(task, splits, rows) if request.data is not None and splits is not None else 0
    by_label = request.per_label or (recipe is not None and recipe.eval.per_label)
    names = (
        first.metric_names
        if first
        else list(request.metrics) or drop_foreign_metrics(choose_metrics(recipe, task), task)
    )
    report = score_report(
        task, names, split, references, predictions, baseline_predictions, by_label=by_label, label_map=label_map
    )
    if first is None:
        warn_of_rare_labels(task, references)
    report = replace(report, learned=learned)
    return Evaluated(model, task, labels, tokenizer_json, names, rows, references, predictions, report)


def count_training_rows(task: Task, splits: Splits, rows: Rows) -> int:
    """Count the rows that the model was trained on, and print a note; the lines of a corpus are no leak."""
    inputs = [name for name in splits.train.column_mapping if name != task.target and name in rows.column_mapping]
    if task.is_corpus or not inputs:
        return 0
    number, message = leaks.check_trained_overlap(splits.train, rows, inputs)
    if number:
        console.print_message(message)
    return number


def check_comparable(first: Evaluated, model: str, task: Task) -> None:
    """Raise ModelError unless another model solves the same problem as the first."""
    one = first.task
    if one.name != task.name:
        what = f"{model} is a model of the task {task.name}, and {first.model} of {one.name}"
        raise ModelError(what, f"if {model} can be one too, open both with --task {one.name}")
    if one.labels and task.labels and set(task.labels) != set(first.labels):
        check_same_labels(first, model, task)
    if one.known_metrics != task.known_metrics:
        metrics = f"{join_names(task.metrics)}, not by {join_names(one.metrics)}"
        what = f"{model} has another problem type than {first.model}: it is scored by {metrics}"
        raise ModelError(what, "compare models of one problem type")


def check_same_labels(first: Evaluated, model: str, task: Task) -> None:
    """Raise ModelError unless another model has the labels of the first."""
    one = first.task
    if set(one.labels) != set(task.labels):
        what = f"{model} has the labels {join_names(task.labels)}, and {first.model} {join_names(one.labels)}"
        raise ModelError(what, "compare models with the same labels")


def load_evaluation_rows(
    saved: SavedModel, request: EvaluationRequest, first: Evaluated | None
) -> tuple[str, Rows] | None:
    """Read the requested rows, or those of the first model, with their name; None means the run's own rows."""
    if request.data is not None:
        requested = ((get_input_column(saved), request.text), (saved.task.target, request.label))
        columns = {name: column for name, column in requested if name and column}
        return str(request.data), read_input_rows(saved, request.data, columns, with_target=True)
    if first is not None:
        mapping = {} if saved.run else first.rows.column_mapping
        columns = {name: column for name, column in mapping.items() if name in saved.task.columns}
        rows = first.rows.with_column_mapping({})
        return first.report.split, map_input_columns(saved, rows, columns, with_target=True)
    return None


def predict_evaluation_rows(saved: SavedModel, request: EvaluationRequest, rows: Rows) -> list[Prediction]:
    """Predict the rows with the requested batch size and precision, by default those of the run."""
    from llmkit.inference.batched import predict_batches

    task, own = saved.task, saved.recipe.eval if saved.recipe else None
    # Without the target: the labels of the data may differ from those of the model.
    inputs = rows.with_column_mapping(
        {name: column for name, column in rows.column_mapping.items() if name != task.target}
    )
    task.set_metrics(request.metrics or choose_metrics(saved.recipe, task))
    features = task.encode(inputs, saved.tokenizer, saved.max_length).features
    batch_size = request.batch_size or (own.batch_size if own else 64)
    precision = request.precision or (own.precision if own else "fp32")
    with console.show_progress("evaluating", len(rows)) as advance:
        return predict_batches(task, saved.model, saved.tokenizer, features, batch_size, precision, advance)


def write_evaluation(evaluated: Evaluated, target: Path | None) -> None:
    """Write metrics.json and predictions.jsonl into the folder, if there is one."""
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        write_report(target, evaluated.report, evaluated.rows, evaluated.references, evaluated.predictions)


def choose_metrics(recipe: Recipe | None, task: Task) -> list[str]:
    """Return the metrics of the recipe, by default those of the task."""
    return list(recipe.eval.metrics if recipe and recipe.eval.metrics else task.metrics)


def drop_foreign_metrics(names: Sequence[str], task: Task) -> list[str]:
    """Drop metrics that run foreign code, because a run may be untrusted; print which are left out."""
    own, foreign = split_foreign_metrics(names)
    if foreign:
        flags = " ".join(f"--metric {name}" for name in foreign)
        console.print_message(
            f"left out: {', '.join(foreign)}, code that is only named in the run's recipe; {flags} runs it"
        )
    return own or list(task.metrics)


def choose_baselines(recipe: Recipe | None, task: Task) -> Sequence[str]:
    """Return the baselines of the recipe, by default those of the task."""
    return task.baselines if recipe is None or recipe.eval.baselines is None else recipe.eval.baselines


def load_run_splits(saved: SavedModel, recipe: Recipe, *, needed: bool) -> Splits | None:
    """Read and split the run's own rows again; missing or changed files are an error if `needed`, else a note."""
    assert saved.run is not None
    try:
        splits = read_splits(recipe.data, saved.task)
        recorded = {one["name"]: one["sha256"] for one in manifest.read_manifest(saved.run)["data"]}
        for file in splits.fingerprint_sources():
            if recorded.get(file["name"]) != file["sha256"]:
                raise DataError(
                    f"{file['name']}: not the file that {saved.run} was trained on", "name the rows with --data"
                )
    except LlmkitError as error:
        if needed:
            raise
        console.print_message(f"no baselines: {error.message}")
        return None
    return splits


def check_output_folder(name: str | None) -> Path | None:
    """Return the output folder, which must be new or empty, never a run."""
    if name is None:
        return None
    path = Path(name).expanduser()
    try:
        is_taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name another -o FOLDER") from None
    if is_taken:
        raise OutputError(f"{path}: not an empty folder", "name a new -o FOLDER")
    # Only a test of write access: the folder is created again when there is output.
    folder.remove_empty_folders(folder.create_missing_folders(path))
    return path
