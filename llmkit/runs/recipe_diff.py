"""Compares the requested recipe with that of an unfinished run, and rejects keys that may not change on resume."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmkit.errors import OutputError, UsageError, suggest_spelling

# Keys that may change when a run resumes, with the effect of the change.
CHANGEABLE_KEYS = {
    "processes": "the same steps, split differently: equal up to rounding, with other dropout masks",
    "train.num_train_epochs": "the schedule is stretched to the new end",
    "train.max_steps": "the schedule is stretched to the new end",
    "train.learning_rate": "the schedule continues at the new rate",
    "train.logging_steps": "log.jsonl has other lines from here on",
    "train.eval_strategy": "another step may become the best",
    "train.eval_steps": "another step may become the best",
    "train.save_strategy": "other steps are saved",
    "train.save_steps": "other steps are saved",
    "train.save_total_limit": "more or fewer checkpoints are kept",
    "train.dataloader_num_workers": "no change to the results",
    "train.ddp_timeout": "a process without a heartbeat is waited for longer or shorter",
    "train.max_tokens_per_pass": "the same gradient, up to rounding",
    "train.fast_path": "the same gradient, up to rounding",
    "train.precision": "lower or higher precision from here on",
    "train.hf.report_to": "other trackers get the metrics",
    "train.hf.run_name": "trackers show another run name",
    "eval.batch_size": "the same predictions, up to rounding",
    "eval.baselines": "other baselines are compared with the model",
    "eval.per_label": "metrics.json has more or fewer scores",
    "eval.early_stopping_patience": "training stops earlier or later",
}
MAX_DIFF_VALUE_LENGTH = 40  # characters of a value in the table


@dataclass(frozen=True)
class RequestedRecipe:
    """The recipe of this command: its hash, its keys, and the keys that may differ from those of the run to resume.

    Raises UsageError for an `allowed` key that is not in CHANGEABLE_KEYS.
    """

    fingerprint: str
    keys: Mapping[str, Any] = field(default_factory=dict)
    allowed: Collection[str] = ()

    def __post_init__(self) -> None:
        for key in self.allowed:
            if key not in CHANGEABLE_KEYS:
                what = f"--allow-change {key}: this key cannot change when a run resumes"
                raise UsageError(what, suggest_spelling(key, [*CHANGEABLE_KEYS]))


RecipeDiff = list[tuple[str, Any, Any]]  # key, value then, value now


def flatten_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{a: {b: 1}, c: {}}` as `{a.b: 1}`; an empty section has nothing that could differ."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten_keys(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def diff_recipes(then: Mapping[str, Any], now: Mapping[str, Any]) -> RecipeDiff:
    """The dotted keys whose values differ, in the order of the recipe."""
    old, new = flatten_keys(then), flatten_keys(now)
    return [(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key)]


def check_recipe_diff(path: Path, diff: RecipeDiff, allowed: Collection[str]) -> None:
    """Raise OutputError with a table of the differences, unless all of them are allowed."""
    refused = [one for one in diff if one[0] not in allowed]
    if not refused:
        return
    changeable = [key for key, _, _ in refused if key in CHANGEABLE_KEYS]
    fix = "repeat the command that started it, or name another --output-dir"
    if len(changeable) == len(refused):
        fix += f", or allow it with {' '.join(f'--allow-change {key}' for key in changeable)}"
    what = f"{path}: holds an unfinished run that was started with other settings"
    raise OutputError(what, fix, format_recipe_diff(refused))


def format_recipe_diff(diff: RecipeDiff) -> list[str]:
    """Key, value then and value now, in columns."""
    rows = [
        ("key", "then", "now"),
        *((key, format_recipe_value(then), format_recipe_value(now)) for key, then, now in diff),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{key:<{widths[0]}}  {then:<{widths[1]}}  {now}" for key, then, now in rows]


def format_recipe_value(value: Any) -> str:
    """A value of the table; a sha256 is shortened to 12 digits."""
    text = "-" if value is None else str(value)
    if len(text) == 64 and not set(text) - set("0123456789abcdef"):
        return text[:12]
    return text if len(text) <= MAX_DIFF_VALUE_LENGTH else f"{text[: MAX_DIFF_VALUE_LENGTH - 3]}..."
