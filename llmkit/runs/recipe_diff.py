"""What is asked of a run now against what it was begun with: the same, allowed to differ, or refused with a table."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.errors import OutputError, UsageError, suggest_spelling

# Keys that a run can change on its way, and what the change does.
CHANGEABLE_KEYS = {
    "processes": "the same steps, divided otherwise: to rounding, and with other draws of dropout",
    "train.num_train_epochs": "the schedule is stretched to the new end",
    "train.max_steps": "the schedule is stretched to the new end",
    "train.learning_rate": "the schedule goes on at the new rate",
    "train.logging_steps": "log.jsonl has other lines from here on",
    "train.eval_strategy": "another step may become the best",
    "train.eval_steps": "another step may become the best",
    "train.save_strategy": "other steps are saved",
    "train.save_steps": "other steps are saved",
    "train.save_total_limit": "more or fewer checkpoints are kept",
    "train.dataloader_num_workers": "nothing that is computed",
    "train.ddp_timeout": "a silent process is waited for longer or shorter",
    "train.fast_path": "the same gradient, to rounding",
    "train.precision": "coarser or finer from here on",
    "train.hf.report_to": "other trackers hear of it",
    "train.hf.run_name": "trackers call it otherwise",
    "eval.batch_size": "the same answers, to rounding",
    "eval.baselines": "other baselines stand beside the scores",
    "eval.per_label": "metrics.json says more or less",
    "eval.early_stopping_patience": "it stops sooner or later",
}
MAX_DIFF_VALUE_LENGTH = 40  # letters of a value in the table


@dataclass(frozen=True)
class RequestedRecipe:
    """A recipe as it was asked for: its hash, its keys, and which of them may differ from those of the run before."""

    fingerprint: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    allowed: Collection[str] = ()

    def __post_init__(self) -> None:
        for key in self.allowed:
            if key not in CHANGEABLE_KEYS:
                raise UsageError(
                    f"--allow-change {key}: a run cannot change it on its way",
                    suggest_spelling(key, [*CHANGEABLE_KEYS]),
                )


RecipeDiff = list[tuple[str, Any, Any]]


def flatten_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}, c: {}}` as `{a.b: 1}`: a section without keys has nothing that could differ."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        found |= flatten_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return found


def diff_recipes(then: Mapping[str, Any], now: Mapping[str, Any]) -> RecipeDiff:
    """The dotted keys whose values differ, in order."""
    old, new = flatten_keys(then), flatten_keys(now)
    return [(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]


def check_recipe_diff(path: Path, found: RecipeDiff, allowed: Collection[str]) -> None:
    """Raise OutputError with a table of what differs, unless all of it is allowed."""
    left = [one for one in found if one[0] not in allowed]
    if not left:
        return
    may = [key for key, _, _ in left if key in CHANGEABLE_KEYS]
    mend = "give the command that began it, or name another --output-dir"
    if len(may) == len(left):
        mend += f", or allow it with {' '.join(f'--allow-change {key}' for key in may)}"
    raise OutputError(
        f"{path}: holds an unfinished run that was begun with something else", mend, format_recipe_diff(left)
    )


def format_recipe_diff(found: RecipeDiff) -> list[str]:
    """Key, then and now, in columns."""
    rows = [
        ("key", "then", "now"),
        *((key, format_recipe_value(then), format_recipe_value(now)) for key, then, now in found),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{key:<{widths[0]}}  {then:<{widths[1]}}  {now}" for key, then, now in rows]


def format_recipe_value(value: Any) -> str:
    """A value of the table; a hash by its beginning."""
    text = "-" if value is None else str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= MAX_DIFF_VALUE_LENGTH else f"{text[: MAX_DIFF_VALUE_LENGTH - 3]}..."
