"""What metrics.json says of answers: scores with intervals, beside baselines, and where a classifier errs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit import console
from llmkit.data.row_errors import pluralize
from llmkit.data.rows import Rows, format_json_line
from llmkit.evaluation.label_mapping import get_reference_labels
from llmkit.evaluation.scoring import score_predictions
from llmkit.inference.predict import build_record
from llmkit.metrics import Score
from llmkit.metrics.classification.per_label import count_confusions, score_labels
from llmkit.runs import manifest
from llmkit.tasks.base import Prediction, Task

METRICS_SCHEMA = 1
MIN_REPEAT_ROWS, REPEAT_SHARE = (
    20,
    0.2,
)  # rows, and the share of them with the same text for an answer, from which on that is said
EMPTY_CAUSES = (
    "too few steps, too low a train.learning_rate, or a tokenizer that does not know the targets"  # likely causes
)
RARE_LABEL_ROWS = 5  # rows of a label; with fewer, 95 % intervals of macro averages cover less (benchmarks/coverage.py)

ScoresByLabel = Mapping[str, Mapping[str, Score | int]]


@dataclass(frozen=True)
class Report:
    """What metrics.json says: the scores of a model on some rows, and of its baselines on the same rows.

    label_map: the model's label for each of the data's that is another word. per_label and confusions (reference, what
    was said, rows) only where they were asked for. lower_is_better: the metrics that fall as a model gets better.
    learned: how many of the rows the model was trained on, where that is known.
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
        """The report as it stands in metrics.json."""
        held = {kind: convert_scores(scores) for kind, scores in self.baselines.items()}
        about: dict[str, Any] = {
            "schema": METRICS_SCHEMA,
            "task": self.task,
            "split": self.split,
            "n": self.n,
            "labels": list(self.labels),
            "metrics": convert_scores(self.metrics),
            "baselines": held,
        }
        if self.learned:
            about["learned"] = self.learned
        if self.label_map:
            about["label_map"] = dict(self.label_map)
        if self.per_label is not None:
            about["per_label"] = {label: convert_scores(scores) for label, scores in self.per_label.items()}
        if self.confusions is not None:
            about["confusions"] = [
                {"reference": true, "answer": said, "rows": rows} for true, said, rows in self.confusions
            ]
        return about


def convert_scores(scores: Mapping[str, Score | int]) -> dict[str, Any]:
    """Scores, and counts beside them, as JSON has them."""
    return {name: score.as_dict() if isinstance(score, Score) else score for name, score in scores.items()}


def score_report(
    task: Task,
    names: Sequence[str],
    split: str,
    references: Sequence[Any],
    answers: Sequence[Prediction],
    held: Mapping[str, Sequence[Prediction]],
    *,
    by_label: bool = False,
    label_map: Mapping[str, str] | None = None,
) -> Report:
    """The report on `answers`, and on the answers `held` against them by baseline.

    `references` are in the model's words; `by_label` asks for the scores of each label and the confusions.
    """
    warn_of_repeated_predictions(task, answers)
    scores = score_predictions(task, names, references, answers)
    by_baseline = {kind: score_predictions(task, names, references, said) for kind, said in held.items()}
    each, wrong = None, None
    if by_label and task.labels:
        said = [one.value for one in answers]
        each = score_labels(references, said, task.labels)
        wrong = count_confusions(references, said) if all(isinstance(one, str) for one in references) else None
    elif by_label:
        console.print_message("no table of labels: the model has none")
    return Report(
        task.name,
        split,
        len(references),
        task.labels,
        scores,
        by_baseline,
        label_map or {},
        each,
        wrong,
        task.lower_is_better,
    )


def warn_of_repeated_predictions(task: Task, answers: Sequence[Prediction]) -> None:
    """Say where many rows have no text, or the same one, for an answer: ROUGE can reward what fits any of them."""
    texts = [one.value.strip() for one in answers if not task.labels and isinstance(one.value, str)]
    said = Counter(texts)
    empty = said.pop("", 0)
    all_empty = empty == len(texts) > 1
    if not all_empty and len(texts) < MIN_REPEAT_ROWS:
        return
    if all_empty or empty >= REPEAT_SHARE * len(texts):
        which = f"all {empty:,}" if all_empty else f"{empty:,} of {len(texts):,}"
        console.print_message(f"{which} answers are empty: {EMPTY_CAUSES}")
    times = max(said.values(), default=0)
    if times >= REPEAT_SHARE * len(texts):
        rows = f"{times:,} of {pluralize(len(texts), 'row')}"
        console.print_message(
            f"the same answer to {rows}: the model has learned what answers look like, not what sources say"
        )


def warn_of_rare_labels(task: Task, references: Sequence[Any]) -> None:
    """Say where labels have so few rows, or none, that macro averages and their intervals mean little."""
    counts = Counter(label for one in references for label in get_reference_labels(one)) if task.labels else Counter()
    thin = sum(count < RARE_LABEL_ROWS for count in counts.values())
    if len(counts) < len(task.labels):
        known = pluralize(len(task.labels), "label")
        console.print_message(
            f"these rows hold {len(counts):,} of the {known}: an answer with one of the others is an error"
        )
    if thin:
        verb = "has" if thin == 1 else "have"
        labels = f"{thin:,} of {pluralize(len(counts), 'label')}"
        console.print_message(f"{labels} {verb} fewer than {RARE_LABEL_ROWS} rows: read macro scores with care")


def write_report(
    target: Path, report: Report, rows: Rows, references: Sequence[Any], answers: Sequence[Prediction]
) -> None:
    """Write metrics.json and predictions.jsonl; every score in the first can be computed from the second."""
    lines = [
        format_json_line(
            build_record(row, one, rows.columns, **({} if reference is None else {"reference": reference}))
        )
        for row, one, reference in zip(rows.records(), answers, references, strict=True)
    ]
    manifest.write_text_file(target / "predictions.jsonl", "\n".join(lines) + "\n")
    manifest.write_json_file(target / "metrics.json", report.as_dict())
