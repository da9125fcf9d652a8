"""What a run says while it learns: a bar, a line an evaluation, and log.jsonl."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from llmkit import console
from llmkit.errors import DiskError


class Journal(TrainerCallback):
    """Shows progress on the terminal and appends every logging event to log.jsonl."""

    def __init__(self, path: Path) -> None:
        self.path, self.text = path, ""
        self.stack = ExitStack()
        self.advance: Callable[..., None] = lambda *_, **__: None
        self.seconds = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.advance = self.stack.enter_context(console.progress("training", state.max_steps))
        self.seconds = time.perf_counter()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.advance(1, self.text)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds = time.perf_counter() - self.seconds
        self.close()

    def close(self) -> None:
        """Take the bar away; harmless when there is none."""
        self.stack.close()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: Any,
    ) -> None:
        event = {"step": state.global_step, **(logs or {})}
        if "loss" in event:
            self.text = f"loss {event['loss']:.4f}"
        try:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(event) + "\n")
        except OSError as fault:
            raise DiskError(f"{self.path}: {fault.strerror}", "free some space and run again") from fault
        scores = [
            f"{name.removeprefix('eval_')} {value:.4f}" for name, value in event.items() if name.startswith("eval_")
        ]
        if scores:
            console.note(f"step {state.global_step:,} (epoch {state.epoch or 0:.1f}): validation {', '.join(scores)}")
