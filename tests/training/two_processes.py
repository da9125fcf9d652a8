"""What tests/training/test_processes.py starts twice by torchrun: several checks for the price of one start.

Each process trains by the plain words of the package; what it saw goes into seen-RANK.json.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import llmkit
from llmkit.errors import Stopped
from llmkit.inference.answers import answer
from llmkit.inference.saved import open_saved
from llmkit.runs import commit, ranks
from llmkit.testing import reviews
from llmkit.training.trainer import StepTrainer


def recording(seen: dict[str, Any]) -> None:
    """Let the trainer say what it wraps its model in, and what the processes agreed on."""
    prepare, step = StepTrainer._prepare_for_training, StepTrainer.training_step

    def prepared(self: StepTrainer, *args: Any, **words: Any) -> Any:
        model, loader = prepare(self, *args, **words)
        seen.setdefault("wrappers", []).append(type(model).__name__)
        seen.setdefault("packed", []).append(self.shortcuts.packing is not None)
        return model, loader

    def stepped(self: StepTrainer, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = step(self, model, inputs, num_items_in_batch)
        seen.setdefault("rows", []).append(sum(len(batch["input_ids"]) for batch in inputs["batches"]))
        seen.setdefault("passes", []).append(len(inputs["batches"]))
        seen.setdefault("losses", []).append(float(loss))
        return loss

    StepTrainer._prepare_for_training, StepTrainer.training_step = prepared, stepped  # type: ignore[method-assign]


def spread_and_alone(run: str) -> bool:
    """Whether the answers that the processes divided are those of one process, bit for bit, for odd numbers of rows."""
    from llmkit.inference.predict import from_texts

    saved = open_saved(run)
    for number in (1, 2, 13):
        rows = from_texts(saved, [row["text"] for row in reviews(number)])
        features = saved.task.encode(rows, saved.tokenizer, saved.max_length).features
        said = [
            [one.as_dict() for one in answer(saved.task, saved.model, saved.tokenizer, features, 2, spread=spread)]
            for spread in (True, False)
        ]
        if said[0] != said[1]:
            return False
    return True


def ended_and_resumed(keys: Sequence[str], words: dict[str, Any], seen: dict[str, Any]) -> None:
    """A run that a signal to the second process ends in its third step, and one in an evaluation; then it goes on to its
    end."""
    step, score = StepTrainer.training_step, StepTrainer.evaluate

    def signalled(self: StepTrainer, *args: Any) -> Any:
        if ranks.rank() == 1 and self.state.global_step == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
        return step(self, *args)

    def scored(self: StepTrainer, **words: Any) -> Any:
        if ranks.rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(self, **words)

    for name, patched in (("training_step", signalled), ("evaluate", scored)):
        was = getattr(StepTrainer, name)
        setattr(StepTrainer, name, patched)
        try:
            llmkit.train(None, *keys, **words)
        except Stopped as stopped:
            seen.setdefault("stopped", []).append(
                [str(stopped), commit.steps(Path(words["output_dir"], "checkpoints"))]
            )
        setattr(StepTrainer, name, was)
    llmkit.train(None, *keys, **words)
    again = llmkit.train(None, *keys, **words)  # finished: every process says so
    seen["finished"] = str(again.path)


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    seen: dict[str, Any] = {"threads": torch.get_num_threads()}
    recording(seen)
    last = jobs.pop()
    for keys, words in jobs:
        report = llmkit.train(None, *keys, **words).report
        seen.setdefault("reports", []).append(report is not None)
    seen["agreed"] = [ranks.agreed(ranks.rank() == 1), ranks.agreed(False)]
    seen["gathered"] = ranks.gathered(f"rank {ranks.rank()}")
    seen["summed"] = ranks.summed([1.0, float(ranks.rank())])
    seen["from_first"] = ranks.from_first(ranks.rank())
    seen["same_answers"] = spread_and_alone(jobs[0][1]["output_dir"])
    ended_and_resumed(*last, seen)
    Path(f"seen-{ranks.rank()}.json").write_text(json.dumps(seen))
    ranks.leave()


if __name__ == "__main__":
    main()
