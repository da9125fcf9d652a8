"""Training progress: a progress bar, one line per evaluation, one line at the end, and log.jsonl."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit import console
from llmkit.errors import DiskError
from llmkit.runs import durable, manifest
from llmkit.training.progress.throughput import ThroughputMeter, Totals

SCORES_PER_LINE = 3  # scores in the line of an evaluation; log.jsonl has all


class ProgressCallback(TrainerCallback):
    """Shows progress on the terminal and appends every logging event to log.jsonl."""

    def __init__(self, path: Path, meter: ThroughputMeter) -> None:
        self.path, self.meter = path, meter
        self.stack = ExitStack()
        self.advance: Callable[..., None] = lambda *_, **__: None
        self.evaluations, self.totals_at_evaluation = 0, Totals()
        self.best: float | None = None
        self.unfinished_message = ""  # the message if training stops early

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.meter.reset()  # a tracker may have taken seconds to start
        self.advance = self.stack.enter_context(console.show_progress("training", state.max_steps))
        if state.global_step:
            self.advance(state.global_step)

    def state_dict(self) -> dict[str, Any]:
        """Return the callback's state as JSON values."""
        totals = list(self.totals_at_evaluation)
        return {"evaluations": self.evaluations, "totals_at_evaluation": totals, "best": self.best}

    def load_state_dict(self, saved: dict[str, Any], state: TrainerState) -> None:
        """Restore the state, and truncate log.jsonl to the events before the checkpoint."""
        self.evaluations, self.best = saved["evaluations"], saved["best"]
        self.totals_at_evaluation = Totals(*saved["totals_at_evaluation"])
        manifest.write_text_file(self.path, "".join(map(format_log_event, state.log_history)))

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.unfinished_message = f"stopped after step {state.global_step:,} of {state.max_steps:,}"
        recent = self.meter.recent_totals()
        remaining = recent.seconds_per_step * (state.max_steps - state.global_step)
        if self.evaluations:  # the pauses include saving the checkpoints
            remaining += self.meter.paused_seconds / self.evaluations * count_remaining_evaluations(args, state)
        self.advance(1, format_step_stats(state, recent), remaining)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        scores = {name.removeprefix("eval_"): value for name, value in (metrics or {}).items()}
        loss = self.meter.step_totals.diff(self.totals_at_evaluation).mean_loss
        self.evaluations, self.totals_at_evaluation = self.evaluations + 1, self.meter.step_totals
        parts = [] if loss is None else [f"loss {loss:.4f}"]
        first = list(scores.items())[:SCORES_PER_LINE]
        parts.append("validation " + ", ".join(f"{name} {format_logged_score(value)}" for name, value in first))
        took = f" ({console.format_duration(self.meter.last_pause_seconds)})"
        mark = ", best so far" if self.is_best(args, scores) else ""
        console.print_message(
            f"step {state.global_step:,} (epoch {state.epoch or 0:.2f}): {', '.join(parts)}{took}{mark}"
        )

    def is_best(self, args: TrainingArguments, scores: dict[str, float]) -> bool:
        """Whether these are the best scores so far by `metric_for_best_model`; False if no best model is kept."""
        value = scores.get(args.metric_for_best_model or "")
        if value is None or not math.isfinite(value):
            return False
        if self.best is not None and not (value > self.best if args.greater_is_better else value < self.best):
            return False
        self.best = value
        return True

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.unfinished_message = ""
        self.close()
        console.print_message(format_run_summary(self.meter))

    def close(self) -> None:
        """Close the progress bar, if it is open, and print why training stopped early."""
        self.stack.close()
        if self.unfinished_message:
            console.print_message(self.unfinished_message)
            self.unfinished_message = ""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        try:
            durable.before_disk_change("append", self.path)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(format_log_event({"step": state.global_step, **(logs or {})}))
        except OSError as error:
            raise DiskError(f"{self.path}: {error.strerror}", "free some space and run again") from error


def format_log_event(event: dict[str, Any]) -> str:
    """Format an event as a line of log.jsonl."""
    return json.dumps({"step": event["step"], **event}, allow_nan=False) + "\n"


def format_step_stats(state: TrainerState, recent: Totals) -> list[str]:
    """Return the texts after the progress bar; a narrow terminal drops the first ones."""
    stats = [f"epoch {state.epoch or 0:.2f}"]
    if recent.mean_loss is not None:
        stats.append(f"loss {recent.mean_loss:.3f}" if recent.mean_loss >= 0.01 else f"loss {recent.mean_loss:.1e}")
    stats.append(f"{console.format_short_number(recent.tokens_per_second)} tokens/s")
    return stats + ([f"pad {recent.padding:.0%}"] if recent.padding >= 0.005 else [])


def count_remaining_evaluations(args: TrainingArguments, state: TrainerState) -> int:
    """Return the number of remaining evaluations, including one due at this step."""
    if args.eval_strategy == "epoch":
        return state.num_train_epochs - math.ceil(state.epoch or 1) + 1
    if args.eval_strategy == "steps":
        return math.ceil(state.max_steps / state.eval_steps) - (state.global_step - 1) // state.eval_steps
    return 0


def format_logged_score(value: float) -> str:
    """Format a score with four digits, or as `undefined` if it is not finite."""
    return f"{value:.4f}" if math.isfinite(value) else "undefined"


def format_run_summary(meter: ThroughputMeter) -> str:
    """Return the line that summarizes a finished training."""
    totals, paused = meter.run_totals(), meter.paused_seconds
    pauses = f" ({console.format_duration(paused)} of it evaluating and saving)" if paused else ""
    padding = f"{totals.padding:.1%} padding" if totals.sent > totals.tokens else "no padding"
    steps = f"{totals.steps:,} step{'s' if totals.steps != 1 else ''}"
    took = f"{steps} in {console.format_duration(totals.seconds + paused)}{pauses}"
    return f"trained {took}: {console.format_short_number(totals.tokens_per_second)} tokens/s, {padding}"
