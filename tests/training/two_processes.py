"""What tests/training/test_processes.py starts by torchrun: several checks for the price of one start.

Each process trains by the plain words of the package; what it saw goes into seen-RANK.json. With the word `again`
it only goes on with the run that one process has taken a part of.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch

import llmkit
from llmkit.errors import OutputError, RunInterrupted
from llmkit.inference.batched import predict_batches
from llmkit.inference.load_saved import load_saved_model
from llmkit.runs import checkpoint, distributed
from llmkit.testing import make_reviews
from llmkit.training.trainer import StepTrainer


def recording(seen: dict[str, Any]) -> None:
    """Let the trainer say what it wraps its model in, and what the processes agreed on."""
    prepare, step = StepTrainer._prepare_for_training, StepTrainer.training_step

    def prepared(self: StepTrainer, *args: Any, **words: Any) -> Any:
        model, loader = prepare(self, *args, **words)
        seen.setdefault("wrappers", []).append(type(model).__name__)
        seen.setdefault("packed", []).append(self.fast_path.padding_free is not None)
        return model, loader

    def stepped(self: StepTrainer, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = step(self, model, inputs, num_items_in_batch)
        seen.setdefault("rows", []).append(sum(len(batch["input_ids"]) for batch in inputs["batches"]))
        seen.setdefault("passes", []).append(len(inputs["batches"]))
        seen.setdefault("numbers", []).append(inputs["rows"])
        seen.setdefault("losses", []).append(float(loss))
        return loss

    StepTrainer._prepare_for_training, StepTrainer.training_step = prepared, stepped  # type: ignore[method-assign]


def spread_and_alone(run: str) -> bool:
    """Whether the answers that the processes divided are those of one process, bit for bit, for odd numbers of rows."""
    from llmkit.inference.predict import build_text_rows

    saved = load_saved_model(run)
    for number in (1, 2, 13):
        rows = build_text_rows(saved, [row["text"] for row in make_reviews(number)])
        features = saved.task.encode(rows, saved.tokenizer, saved.max_length).features
        said = [
            [
                one.as_dict()
                for one in predict_batches(saved.task, saved.model, saved.tokenizer, features, 2, distributed=spread)
            ]
            for spread in (True, False)
        ]
        if said[0] != said[1]:
            return False
    return True


@contextmanager
def sending(number: int, method: str, before_step: int | None = None) -> Iterator[None]:
    """A signal to the last process as it calls the trainer's `method`, once `before_step` steps are done."""
    was = getattr(StepTrainer, method)

    def signalled(self: StepTrainer, *args: Any, **words: Any) -> Any:
        if distributed.rank() == distributed.world_size() - 1 and before_step in (None, self.state.global_step):
            os.kill(os.getpid(), number)
        return was(self, *args, **words)

    setattr(StepTrainer, method, signalled)
    try:
        yield
    finally:
        setattr(StepTrainer, method, was)


def ended_and_resumed(keys: Sequence[str], words: dict[str, Any], seen: dict[str, Any]) -> None:
    """A run that a signal to the second process ends in its third step, and one in an evaluation; then it goes on to its
    end."""
    for signals in (sending(signal.SIGUSR1, "training_step", 2), sending(signal.SIGTERM, "evaluate")):
        try:
            with signals:
                llmkit.train(None, *keys, **words)
        except RunInterrupted as stopped:
            seen.setdefault("stopped", []).append(
                [str(stopped), checkpoint.list_checkpoint_steps(Path(words["output_dir"], "checkpoints"))]
            )
    llmkit.train(None, *keys, **words)
    again = llmkit.train(None, *keys, **words)  # finished: every process says so
    seen["finished"] = str(again.path)


def begun(keys: Sequence[str], words: dict[str, Any]) -> list[list[int]]:
    """The rows of the steps of a run that is ended in its third step."""
    seen: dict[str, Any] = {}
    recording(seen)
    with suppress(RunInterrupted), sending(signal.SIGTERM, "training_step", 2):
        llmkit.train(None, *keys, **words)
    return list(seen["numbers"])


def gone_on(keys: Sequence[str], words: dict[str, Any]) -> None:
    """Go on where one process was, which is refused unless it is allowed."""
    seen: dict[str, Any] = {}
    recording(seen)
    try:
        llmkit.train(None, *keys, **words)
    except OutputError as fault:
        seen["refused"] = str(fault)
    llmkit.train(None, *keys, allow_change=["processes"], **words)
    Path(f"again-{distributed.rank()}.json").write_text(json.dumps(seen))


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    if sys.argv[2:] == ["again"]:
        gone_on(*jobs["moved"])
        distributed.leave_processes()
        return
    seen: dict[str, Any] = {"threads": torch.get_num_threads(), "moved": begun(*jobs["moved"])}
    recording(seen)
    for keys, words in jobs["plain"]:
        report = llmkit.train(None, *keys, **words).report
        seen.setdefault("reports", []).append(report is not None)
    seen["agreed"] = [distributed.any_rank(distributed.rank() == 1), distributed.any_rank(False)]
    seen["gathered"] = distributed.all_gather(f"rank {distributed.rank()}")
    seen["summed"] = distributed.all_sum([1.0, float(distributed.rank())])
    seen["from_first"] = distributed.broadcast(distributed.rank())
    written = {words["output_dir"] for _, words in jobs["plain"]}
    seen["same_answers"] = {run: spread_and_alone(run) for run in sorted(written - {"two/masked-lm"})}
    ended_and_resumed(*jobs["ended"], seen)
    Path(f"seen-{distributed.rank()}.json").write_text(json.dumps(seen))
    distributed.leave_processes()


if __name__ == "__main__":
    main()
