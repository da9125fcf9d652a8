"""Experiment trackers of `train.hf.report_to` during training: TensorBoard's folder, and no interactive prompts."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import TensorBoardCallback

from llmkit.console import redact_secrets
from llmkit.errors import RecipeError


def build_tracker_error(names: Sequence[str], error: BaseException) -> RecipeError:
    """Build the RecipeError for a tracker that failed to start."""
    message = " ".join(f"{type(error).__name__}: {redact_secrets(str(error))}".split())[:300].rstrip(".")
    fix = "set it up first (llmkit does not prompt), or leave it out"
    return RecipeError(f"train.hf.report_to: {', '.join(names)}: {message}", fix)


class TensorBoardFolderCallback(TensorBoardCallback):
    """Writes TensorBoard files to `folder`, or to TENSORBOARD_LOGGING_DIR, with access tokens redacted."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.tb_writer: Any = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not os.environ.get("TENSORBOARD_LOGGING_DIR"):
            if not state.global_step:
                shutil.rmtree(self.folder, ignore_errors=True)  # of the same run, which starts again
            self.logging_dir = str(self.folder)
        super().on_train_begin(args, state, control, **kwargs)

    def _init_summary_writer(self, args: TrainingArguments) -> None:
        super()._init_summary_writer(args)
        add_text = self.tb_writer.add_text
        self.tb_writer.add_text = lambda tag, text, *more: add_text(tag, redact_secrets(text), *more)

    def close(self) -> None:
        """Close the files, however training ended."""
        if self.tb_writer is not None:
            self.tb_writer.close()
            self.tb_writer = None


@contextmanager
def disable_stdin() -> Iterator[None]:
    """Replace stdin by an empty stream inside the block: a tracker that prompts for a key fails instead of waiting."""
    stdin = sys.stdin
    with Path(os.devnull).open() as nothing:
        sys.stdin = nothing
        try:
            yield
        finally:
            sys.stdin = stdin
