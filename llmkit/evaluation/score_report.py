"""The report of a run: scores with intervals and baselines, written to metrics.json and predictions.jsonl."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import Rows, format_json_line
from llmkit.evaluation.foreign_metrics import list_lower_is_better
from llmkit.evaluation.label_mapping import get_reference_labels
from llmkit.evaluation.scoring import score_predictions
from llmkit.inference.predict import build_record
from llmkit.metrics import Score
from llmkit.metrics.classification.per_label import count_confusions, score_labels
from llmkit.runs import manifest
from llmkit.tasks.base import Prediction, Task

METRICS_SCHEMA = 1
MIN_REPEAT_ROWS = 20  # rows from which empty or repeated predictions are reported
REPEAT_SHARE = 0.2  # of the rows with an empty or the same prediction, from which that is reported
EMPTY_CAUSES = "too few steps, too low a train.learning_rate, or a tokenizer that does not know the targets"
# With fewer rows of a label, intervals of macro averages have less than 95 % coverage (benchmarks/coverage.py).
RARE_LABEL_ROWS = 5

ScoresByLabel = Mapping[str, Mapping[str, Score | int]]


@dataclass(frozen=True)
class Report:
    """Content of metrics.json: the scores of a model and of its baselines on the same rows.

    label_map: from labels of the data to different labels of the model. per_label and confusions (reference,
    prediction, rows): only on request. lower_is_better: the metrics where a lower value is better.
    learned: the number of these rows that the model was trained on, if known.
    """

    task: str
    split: str
    n: int
    labels: Sequence[str]
    metrics: Mapping[str, Score]
    baselines: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    label_map: Mapping[str, str] = field(default_factory=dict)
    per_label: ScoresByLabel | None = None
    confusions: Sequence[tuple[str, str, int]] | None = None
    lower_is_better: Sequence[str] = ()
    learned: int = 0

    def as_dict(self) -> dict[str, Any]:
        """Return the report as in metrics.json."""
        report: dict[str, Any] = {
            "schema": METRICS_SCHEMA,
            "task": self.task,
            "split": self.split,
            "n": self.n,
            "labels": list(self.labels),
            "metrics": convert_scores(self.metrics),
            "baselines": {name: convert_scores(scores) for name, scores in self.baselines.items()},
        }
        if self.learned:
            report["learned"] = self.learned
        if self.label_map:
            report["label_map"] = dict(self.label_map)
        if self.per_label is not None:
            report["per_label"] = {label: convert_scores(scores) for label, scores in self.per_label.items()}
        if self.confusions is not None:
            report["confusions"] = [
                {"reference": true, "prediction": predicted, "rows": rows} for true, predicted, rows in self.confusions
            ]
        return report


def convert_scores(scores: Mapping[str, Score | int]) -> dict[str, Any]:
    """Convert scores to JSON; counts stay as they are."""
    return {name: score.as_dict() if isinstance(score, Score) else score for name, score in scores.items()}


def score_report(
    task: Task,
    names: Sequence[str],
    split: str,
    references: Sequence[Any],
    predictions: Sequence[Prediction],
    baseline_predictions: Mapping[str, Sequence[Prediction]],
    *,
    by_label: bool = False,
    label_map: Mapping[str, str] | None = None,
) -> Report:
    """Score `predictions` and the `baseline_predictions` (by baseline name), and return the report.

    `references` have the labels of the model; `by_label` adds the scores of each label and the confusions.
    """
    warn_of_repeated_predictions(task, predictions)
    scores = score_predictions(task, names, references, predictions)
    by_baseline = {
        name: score_predictions(task, names, references, predicted) for name, predicted in baseline_predictions.items()
    }
    label_scores, wrong = None, None
    if by_label and task.labels:
        values = [one.value for one in predictions]
        label_scores = score_labels(references, values, task.labels)
        wrong = count_confusions(references, values) if all(isinstance(one, str) for one in references) else None
    elif by_label:
        console.print_message("no scores by label: the model has no labels")
    return Report(
        task.name,
        split,
        len(references),
        task.labels,
        scores,
        by_baseline,
        label_map or {},
        label_scores,
        wrong,
        list_lower_is_better(task, names),
    )


def warn_of_repeated_predictions(task: Task, predictions: Sequence[Prediction]) -> None:
    """Warn if many predicted texts are empty or equal: ROUGE can reward a text that fits any row."""
    texts = [one.value.strip() for one in predictions if not task.labels and isinstance(one.value, str)]
    counts = Counter(texts)
    empty = counts.pop("", 0)
    all_empty = empty == len(texts) > 1
    if not all_empty and len(texts) < MIN_REPEAT_ROWS:
        return
    if all_empty or empty >= REPEAT_SHARE * len(texts):
        which = f"all {empty:,}" if all_empty else f"{empty:,} of {len(texts):,}"
        console.print_message(f"{which} predictions are empty: {EMPTY_CAUSES}")
    times = max(counts.values(), default=0)
    if times >= REPEAT_SHARE * len(texts):
        rows = f"{times:,} of {pluralize(len(texts), 'row')}"
        console.print_message(
            f"the same prediction for {rows}: the model may have learned the form of the targets without the inputs"
        )


def warn_of_rare_labels(task: Task, references: Sequence[Any]) -> None:
    """Warn if labels have too few rows, or none, for meaningful macro averages and intervals."""
    counts = Counter(label for one in references for label in get_reference_labels(one)) if task.labels else Counter()
    rare = sum(count < RARE_LABEL_ROWS for count in counts.values())
    if len(counts) < len(task.labels):
        known = pluralize(len(task.labels), "label")
        console.print_message(
            f"these rows have {len(counts):,} of the {known}: a prediction of another label is always wrong"
        )
    if rare:
        verb = "has" if rare == 1 else "have"
        labels = f"{rare:,} of {pluralize(len(counts), 'label')}"
        console.print_message(f"{labels} {verb} fewer than {RARE_LABEL_ROWS} rows: interpret macro scores with care")


def write_report(
    target: Path, report: Report, rows: Rows, references: Sequence[Any], predictions: Sequence[Prediction]
) -> None:
    """Write metrics.json and predictions.jsonl; all scores can be recomputed from predictions.jsonl."""
    lines = [
        format_json_line(
            build_record(row, one, rows.columns, **({} if reference is None else {"reference": reference}))
        )
        for row, one, reference in zip(rows.records(), predictions, references, strict=True)
    ]
    manifest.write_text_file(target / "predictions.jsonl", "\n".join(lines) + "\n")
    manifest.write_json_file(target / "metrics.json", report.as_dict())
