"""Script that tests/training/test_processes.py starts by torchrun: several checks with a single start.

Each rank trains through the package's API and records its observations in seen-RANK.json. With the argument `again` it
only resumes the run that a single process has continued.
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


def record_steps(records: dict[str, Any]) -> None:
    """Record the wrapper of the model, and the rows, passes and losses of each step."""
    prepare, step = StepTrainer._prepare_for_training, StepTrainer.training_step

    def prepare_and_record(self: StepTrainer, *args: Any, **kwargs: Any) -> Any:
        model, loader = prepare(self, *args, **kwargs)
        records.setdefault("wrappers", []).append(type(model).__name__)
        records.setdefault("packed", []).append(self.fast_path.padding_free is not None)
        return model, loader

    def step_and_record(self: StepTrainer, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Any:
        loss = step(self, model, inputs, num_items_in_batch)
        records.setdefault("rows", []).append(sum(len(batch["input_ids"]) for batch in inputs["batches"]))
        records.setdefault("passes", []).append(len(inputs["batches"]))
        records.setdefault("numbers", []).append(inputs["rows"])
        records.setdefault("losses", []).append(float(loss))
        return loss

    StepTrainer._prepare_for_training, StepTrainer.training_step = prepare_and_record, step_and_record  # type: ignore[method-assign]


def has_same_predictions(run: str) -> bool:
    """Whether predictions divided among the ranks equal those of one process, bit for bit, for odd numbers of rows."""
    from llmkit.inference.predict import build_text_rows

    saved = load_saved_model(run)
    for number in (1, 2, 13):
        rows = build_text_rows(saved, [row["text"] for row in make_reviews(number)])
        features = saved.task.encode(rows, saved.tokenizer, saved.max_length).features
        predictions = [
            [
                one.as_dict()
                for one in predict_batches(saved.task, saved.model, saved.tokenizer, features, 2, distributed=divided)
            ]
            for divided in (True, False)
        ]
        if predictions[0] != predictions[1]:
            return False
    return True


@contextmanager
def send_signal(number: int, method: str, before_step: int | None = None) -> Iterator[None]:
    """Send a signal to the last rank when it calls the trainer's `method`, after `before_step` steps."""
    original = getattr(StepTrainer, method)

    def method_with_signal(self: StepTrainer, *args: Any, **kwargs: Any) -> Any:
        if distributed.rank() == distributed.world_size() - 1 and before_step in (None, self.state.global_step):
            os.kill(os.getpid(), number)
        return original(self, *args, **kwargs)

    setattr(StepTrainer, method, method_with_signal)
    try:
        yield
    finally:
        setattr(StepTrainer, method, original)


def stop_and_resume(keys: Sequence[str], kwargs: dict[str, Any], records: dict[str, Any]) -> None:
    """Stop a run by a signal to the second rank in the third step, then in an evaluation, then resume it to its end."""
    for signals in (send_signal(signal.SIGUSR1, "training_step", 2), send_signal(signal.SIGTERM, "evaluate")):
        try:
            with signals:
                llmkit.train(None, *keys, **kwargs)
        except RunInterrupted as stopped:
            records.setdefault("stopped", []).append(
                [str(stopped), checkpoint.list_checkpoint_steps(Path(kwargs["output_dir"], "checkpoints"))]
            )
    llmkit.train(None, *keys, **kwargs)
    finished = llmkit.train(None, *keys, **kwargs)  # finished: every rank returns the run
    records["finished"] = str(finished.path)


def start_and_stop(keys: Sequence[str], kwargs: dict[str, Any]) -> list[list[int]]:
    """Return the rows of the steps of a run that is stopped in its third step."""
    records: dict[str, Any] = {}
    record_steps(records)
    with suppress(RunInterrupted), send_signal(signal.SIGTERM, "training_step", 2):
        llmkit.train(None, *keys, **kwargs)
    return list(records["numbers"])


def resume_from_one_process(keys: Sequence[str], kwargs: dict[str, Any]) -> None:
    """Resume the run of a single process, which is rejected unless the change is allowed."""
    records: dict[str, Any] = {}
    record_steps(records)
    try:
        llmkit.train(None, *keys, **kwargs)
    except OutputError as error:
        records["refused"] = str(error)
    llmkit.train(None, *keys, allow_change=["processes"], **kwargs)
    Path(f"again-{distributed.rank()}.json").write_text(json.dumps(records))


def main() -> None:
    jobs = json.loads(Path(sys.argv[1]).read_text())
    if sys.argv[2:] == ["again"]:
        resume_from_one_process(*jobs["moved"])
        distributed.leave_processes()
        return
    records: dict[str, Any] = {"threads": torch.get_num_threads(), "moved": start_and_stop(*jobs["moved"])}
    record_steps(records)
    for keys, kwargs in jobs["plain"]:
        report = llmkit.train(None, *keys, **kwargs).report
        records.setdefault("reports", []).append(report is not None)
    records["any_rank"] = [distributed.any_rank(distributed.rank() == 1), distributed.any_rank(False)]
    records["all_gather"] = distributed.all_gather(f"rank {distributed.rank()}")
    records["all_sum"] = distributed.all_sum([1.0, float(distributed.rank())])
    records["broadcast"] = distributed.broadcast(distributed.rank())
    runs = {kwargs["output_dir"] for _, kwargs in jobs["plain"]}
    records["same_predictions"] = {run: has_same_predictions(run) for run in sorted(runs - {"two/masked-lm"})}
    stop_and_resume(*jobs["ended"], records)
    Path(f"seen-{distributed.rank()}.json").write_text(json.dumps(records))
    distributed.leave_processes()


if __name__ == "__main__":
    main()
