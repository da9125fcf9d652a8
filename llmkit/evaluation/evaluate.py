"""Scores of answers, with intervals and baselines: one definition for training, `llmkit eval` and Python."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.faults import listed
from llmkit.data.prepare import Splits, read_splits
from llmkit.data.rows import Rows, json_line
from llmkit.errors import DataError, LlmkitError, OutputError, UsageError, did_you_mean
from llmkit.evaluation import baselines
from llmkit.inference.predict import read_inputs, record
from llmkit.inference.saved import Saved, checked_use, open_saved
from llmkit.metrics import Score
from llmkit.recipe.schema import Recipe
from llmkit.runs import folder, manifest
from llmkit.tasks.base import Answer, Task

SCHEMA = 1
THIN = 5  # rows of a label; with fewer, 95 % intervals of macro averages cover less (benchmarks/coverage.py)


@dataclass(frozen=True)
class Report:
    """What metrics.json says: the scores of a model on some rows, and of its baselines on the same rows."""

    task: str
    split: str
    n: int
    labels: Sequence[str]
    metrics: Mapping[str, Score]
    baselines: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The report as it stands in metrics.json."""
        scores = {name: score.as_dict() for name, score in self.metrics.items()}
        held = {kind: {name: score.as_dict() for name, score in by.items()} for kind, by in self.baselines.items()}
        return {
            "schema": SCHEMA,
            "task": self.task,
            "split": self.split,
            "n": self.n,
            "labels": list(self.labels),
            "metrics": scores,
            "baselines": held,
        }


def metric_names(recipe: Recipe | None, task: Task) -> list[str]:
    """The metrics that a recipe names, else the task's own."""
    return list(recipe.eval.metrics if recipe and recipe.eval.metrics else task.metrics)


def judge(
    task: Task,
    names: Sequence[str],
    split: str,
    rows: Rows,
    answers: Sequence[Answer],
    held: Mapping[str, Sequence[Any]],
) -> Report:
    """The report on `answers` to `rows`, and on the answers `held` against them by baseline."""
    references = task.references(rows)
    scores = task.score(names, references, [one.answer for one in answers])
    by_baseline = {kind: task.score(names, references, said) for kind, said in held.items()}
    return Report(task.name, split, len(rows), task.labels, scores, by_baseline)


def warn_of_thin_labels(task: Task, rows: Rows) -> None:
    """Say where labels have so few rows, or none, that macro averages and their intervals mean little."""
    counts = Counter(task.references(rows)) if task.labels else Counter()
    thin = sum(count < THIN for count in counts.values())
    if len(counts) < len(task.labels):
        console.note(f"these rows hold {len(counts):,} of the {len(task.labels):,} labels: the others are not judged")
    if thin:
        console.note(f"{thin:,} of {len(counts):,} labels have fewer than {THIN} rows: read macro scores with care")


def write(target: Path, task: Task, report: Report, rows: Rows, answers: Sequence[Answer]) -> None:
    """Write metrics.json and predictions.jsonl; every score in the first can be computed from the second."""
    lines = [
        json_line(record(row, one, rows.columns, reference=reference))
        for row, one, reference in zip(rows.records(), answers, task.references(rows), strict=True)
    ]
    manifest.write_text(target / "predictions.jsonl", "\n".join(lines) + "\n")
    manifest.write_json(target / "metrics.json", report.as_dict())


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
) -> dict[str, Any]:
    """Score a run or any Hugging Face folder, as metrics.json has it: on `data`, or on the run's own test rows.

    `text` and `label` name the columns of `data`, `keys` say more of how it is read ("data.delimiter=;");
    `output_dir` is a fresh folder for metrics.json and predictions.jsonl. Raises DataError for labels that the model
    does not know, UsageError where no rows are named.
    """
    return report_on(
        open_saved(os.fspath(model), task, keys), data, text, label, metrics, batch_size, precision, output_dir
    ).as_dict()


def report_on(
    saved: Saved,
    data: Any = None,
    text: str | None = None,
    label: str | None = None,
    metrics: Sequence[str] = (),
    batch_size: int | None = None,
    precision: str | None = None,
    output_dir: str | None = None,
) -> Report:
    """The work of `evaluate` on an open model."""
    from llmkit.inference.answers import answer

    checked_use(batch_size, precision)
    task, recipe = saved.task, saved.recipe
    target = output_folder(output_dir)
    names = list(metrics) or metric_names(recipe, task)
    for name in names:
        if name not in task.known_metrics:
            raise UsageError(f"--metric {name}: unknown", did_you_mean(name, task.known_metrics))
    splits = None if recipe is None else own_splits(saved, recipe, needed=data is None)
    if data is not None:
        given = {word: column for word, column in (("text", text), ("label", label)) if column}
        split, rows = str(data), read_inputs(saved, data, given, with_target=True)
    elif splits is None:
        raise UsageError(f"{saved.name}: no run, so it has no rows of its own", "name the rows with --data FILE")
    else:
        split, rows = splits.judged()
    known(task, rows)
    features = task.encode(rows, saved.tokenizer, saved.max_length).features
    judged_by = recipe.eval if recipe else None
    with console.progress("evaluating", len(rows)) as advance:
        answers = answer(
            task,
            saved.model,
            saved.tokenizer,
            features,
            batch_size or (judged_by.batch_size if judged_by else 64),
            precision or (judged_by.precision if judged_by else "fp32"),
            advance,
        )
    held = {} if splits is None else baselines.answers(task, baseline_names(recipe, task), splits.train, rows)
    report = judge(task, names, split, rows, answers, held)
    warn_of_thin_labels(task, rows)
    if target is not None:
        target.mkdir(parents=True, exist_ok=True)
        write(target, task, report, rows, answers)
    return report


def baseline_names(recipe: Recipe | None, task: Task) -> Sequence[str]:
    """The baselines that a recipe names, else the task's own."""
    return task.baselines if recipe is None or recipe.eval.baselines is None else recipe.eval.baselines


def known(task: Task, rows: Rows) -> None:
    """Raise DataError where a reference is none of the model's labels."""
    labels = set(task.labels)
    wrong = [(i, label) for i, label in enumerate(task.references(rows)) if labels and label not in labels]
    column = rows.words.get(task.target or "", "")
    if wrong:
        row, label = wrong[0]
        raise DataError(
            f"{rows.where(row)}: label '{label}' of column '{column}' is none of the model's ({listed(task.labels)})",
            "name the column that holds the labels with --label, or mend them",
            [f"{rows.where(i)}: '{label}'" for i, label in wrong] if len(wrong) > 1 else (),
        )


def own_splits(saved: Saved, recipe: Recipe, *, needed: bool) -> Splits | None:
    """The run's own rows, split as they were. Where files are gone or changed: an error if `needed`, else a note."""
    assert saved.run is not None
    try:
        splits = read_splits(recipe.data, saved.task)
        recorded = {one["name"]: one["sha256"] for one in manifest.read(saved.run)["data"]}
        for file in splits.files():
            if recorded.get(file["name"]) != file["sha256"]:
                raise DataError(
                    f"{file['name']}: not the file that {saved.run} was trained on", "name the rows with --data"
                )
    except LlmkitError as fault:
        if needed:
            raise
        console.note(f"no baselines: {fault.message}")
        return None
    return splits


def output_folder(name: str | None) -> Path | None:
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
    folder.remove(folder.make(path))  # only tried: it is made when there is something to write
    return path
