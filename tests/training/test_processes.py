"""Tests two real processes on CPUs: same update and scores as one process, and one error message for a failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.data.batching import StepSampler
from llmkit.errors import OutputError, RunInterrupted
from llmkit.testing import make_articles, make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines
from llmkit.training.trainer import StepTrainer
from tests.training.two_processes import record_steps, send_signal

pytestmark = pytest.mark.slow

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# PLAIN ends with a step of 1 row for two processes; ACCUMULATED has 7 rows per step, one at a time: unequal parts and
# several passes.
PLAIN = ("train.num_train_epochs=1", "train.batch_size=8", "train.learning_rate=0.05", "train.optim=sgd",
         "train.max_grad_norm=0", "data.split.test=0.2", "data.split.validation=0.2", "eval.batch_size=3")  # fmt: skip
ACCUMULATED = ("train.num_train_epochs=1", "train.batch_size=7", "train.max_tokens_per_pass=24",
               "train.learning_rate=0.05", "train.optim=sgd", "train.max_grad_norm=0", "train.fast_path=off",
               "model.max_length=24")  # fmt: skip
# The keys of transformers name the rows of each process: 1 process x 4 x 2 and 2 processes x 4 are both a step of 8.
FOUR_TWICE = (*(key for key in PLAIN if key != "train.batch_size=8"), "train.per_device_train_batch_size=4",
              "train.gradient_accumulation_steps=2")  # fmt: skip
FOUR_EACH = FOUR_TWICE[:-1]
# With dropout, for which each rank has its own generator; 10 steps, evaluated after 5 and 10.
STOPPED = ("train.num_train_epochs=2", "train.batch_size=8", "train.learning_rate=0.01", "eval.batch_size=2",
           "train.logging_steps=1", "model.config={hidden_dropout_prob: 0.1}")  # fmt: skip
# Two epochs of 7 steps, started on two processes, continued on one, and finished on two.
RESUMED = ("train.num_train_epochs=2", *PLAIN[1:])
SUMMARIES = ("train.max_steps=6", "train.batch_size=8", "train.learning_rate=0.05", "train.optim=sgd",
             "train.max_grad_norm=0", "train.logging_steps=2", "eval.batch_size=3", "data.split.test=0.1", "data.split.validation=0.1")  # fmt: skip
MASKED = ("train.max_steps=3", "train.batch_size=5", "train.learning_rate=0.05", "train.optim=sgd")


RunSpec = tuple[Sequence[str], dict[str, str], str]


def run_script(*flags: str) -> subprocess.CompletedProcess[str]:
    """Run two processes of the script; both must succeed."""
    script = str(Path(__file__).with_name("two_processes.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, *flags]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    return finished


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with data, tiny models, and the runs of one and of two processes."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_jsonl("reviews.jsonl", make_reviews(83))
        write_lines("corpus.txt", make_sentences(60))
        make_tiny_model("bert", **NO_DROPOUT)
        make_tiny_model("masked", auto_class="AutoModelForMaskedLM", texts=make_sentences(60), **NO_DROPOUT)
        write_jsonl("articles.jsonl", make_articles(70))
        make_tiny_model(
            "t5", "t5", dropout_rate=0.0, texts=[text for row in make_articles(70) for text in row.values()]
        )
        classify = {"task": "classify", "model": "bert", "train": "reviews.jsonl"}
        mlm = {"task": "mlm", "model": "masked", "train": "corpus.txt"}
        summarize = {"task": "summarize", "model": "t5", "train": "articles.jsonl"}
        plain: list[RunSpec] = [(PLAIN, classify, "plain"), (ACCUMULATED, classify, "cut"), (MASKED, mlm, "masked-lm"),
                                (SUMMARIES, summarize, "summaries")]  # fmt: skip
        single = [*plain, (RESUMED, classify, "moved"), (FOUR_TWICE, classify, "four")]
        for keys, flags, name in single:
            llmkit.train(None, *keys, **flags, output_dir=f"one/{name}")

        def in_two(keys: Sequence[str], flags: dict[str, str], name: str) -> tuple[Sequence[str], dict[str, str]]:
            return keys, flags | {"output_dir": f"two/{name}"}

        jobs = {
            "plain": [in_two(*one) for one in [*plain, (STOPPED, classify, "unbroken"), (FOUR_EACH, classify, "four")]],
            "ended": in_two(STOPPED, classify, "ended"),
            "moved": in_two(RESUMED, classify, "moved"),
        }
        Path("jobs.json").write_text(json.dumps(jobs))
        finished = run_script("jobs.json")
        Path("stderr.txt").write_text(finished.stderr)
        yield folder


def read_records(folder: Path) -> list[dict[str, Any]]:
    return [json.loads((folder / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm", "summaries", "four"])
def test_update_of_two_processes_equals_that_of_one(folder: Path, name: str) -> None:
    one, two = (load_file(folder / number / name / "model" / "model.safetensors") for number in ("one", "two"))
    assert one.keys() == two.keys()
    prefix, model = {"masked-lm": ("", "masked"), "summaries": ("", "t5")}.get(name, ("bert.", "bert"))
    start = {prefix + key: weight for key, weight in load_file(folder / model / "model.safetensors").items()}
    assert (
        max(float((one[key] - start[key]).abs().max()) for key in one.keys() & start) > 1e-3
    )  # the weights have changed
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-6)


def test_ranks_had_unequal_and_empty_parts(folder: Path) -> None:
    first, second = read_records(folder)
    rows = [list(pair) for pair in zip(first["rows"], second["rows"], strict=True)]
    assert [4, 3] in rows
    assert [1, 1] in rows  # a last step of one row: the second rank's batch has weight 0
    assert first["losses"] == second["losses"]
    assert any(one != two for one, two in zip(first["passes"], second["passes"], strict=True))
    assert max(first["passes"]) > 1
    assert first["wrappers"] == second["wrappers"] == ["DistributedDataParallel"] * len(first["wrappers"])
    assert first["packed"][:3] == second["packed"][:3] == [True, False, True]


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm", "summaries"])
def test_scores_of_two_processes_equal_those_of_one(folder: Path, name: str) -> None:
    one, two = (json.loads((folder / number / name / "metrics.json").read_text()) for number in ("one", "two"))
    assert one["n"] == two["n"]
    assert one["n"] == 17 or name != "plain"
    for metric, score in one["metrics"].items():
        assert two["metrics"][metric]["value"] == pytest.approx(score["value"], rel=1e-5)
    lines = [(folder / number / name / "predictions.jsonl").read_text().splitlines() for number in ("one", "two")]
    rows = [[json.loads(line) for line in text] for text in lines]
    assert [row.get("text") for row in rows[0]] == [row.get("text") for row in rows[1]]
    if name == "summaries":
        assert rows[0] == rows[1]
        assert one["n"] == 7
        assert len({row["prediction"] for row in rows[0]}) > 1


def test_run_resumes_with_another_number_of_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row occurs once per epoch, in the order of an uninterrupted run, and the weights are the same."""
    monkeypatch.chdir(folder)
    flags: dict[str, Any] = {"task": "classify", "model": "bert", "train": "reviews.jsonl", "output_dir": "two/moved"}
    with pytest.raises(OutputError) as caught:
        llmkit.train(None, *RESUMED, **flags)
    assert "processes  2     1" in str(caught.value)
    assert "allow it with --allow-change processes" in str(caught.value)
    single: dict[str, Any] = {}
    for name in ("_prepare_for_training", "training_step"):
        monkeypatch.setattr(StepTrainer, name, getattr(StepTrainer, name))  # restores what `record_steps` sets
    record_steps(single)
    with pytest.raises(RunInterrupted), send_signal(signal.SIGUSR1, "training_step", 8):
        llmkit.train(None, *RESUMED, allow_change=["processes"], **flags)
    run_script("jobs.json", "again")
    first, last = read_records(folder), [json.loads((folder / f"again-{rank}.json").read_text()) for rank in (0, 1)]
    for before, after in zip(first, last, strict=True):
        assert "processes  1     2" in after["refused"]
        steps = [*before["moved"], *single["numbers"], *after["numbers"]]
        assert steps == [step for epoch in (0, 1) for step in expected_steps(epoch)]
    assert (len(first[0]["moved"]), len(single["numbers"]), len(last[0]["numbers"])) == (3, 6, 5)
    one, two = (load_file(folder / number / "moved" / "model" / "model.safetensors") for number in ("one", "two"))
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-6)
    resumed = json.loads((folder / "two/moved/run.json").read_text())["resumed"]
    assert [(part["after_step"], part["changed"]) for part in resumed] == [
        (3, [["processes", 2, 1]]),
        (9, [["processes", 1, 2]]),
    ]


def expected_steps(epoch: int) -> list[list[int]]:
    """Return the rows of each step of 49 rows, 8 per step, for the default seed and this epoch."""
    steps = StepSampler(49, 8, seed=42)
    steps.set_epoch(epoch)
    assert sorted(row for step in steps for row in step) == list(range(49))
    return list(steps)


def test_collective_operations(folder: Path) -> None:
    for one in read_records(folder):
        assert one["any_rank"] == [True, False]
        assert one["all_gather"] == ["rank 0", "rank 1"]
        assert one["all_sum"] == [2.0, 1.0]
        assert one["broadcast"] == 0
        assert one["same_predictions"] == dict.fromkeys(
            ("two/cut", "two/four", "two/plain", "two/summaries", "two/unbroken"), True
        )


def test_only_the_main_process_prints_and_writes(folder: Path) -> None:
    assert [one["reports"] for one in read_records(folder)] == [[True] * 6, [False] * 6]
    lines = (folder / "stderr.txt").read_text().splitlines()
    size = "batch: {} rows per step; {} on each of 2 processes (ddp), at most "
    for rows, each, at_once, runs in (
        (8, "4", "4 rows of", 8),
        (7, "at most 4", "1 row of 24", 1),
        (5, "at most 3", "3 rows of", 1),
    ):
        assert sum(line.startswith(size.format(rows, each) + at_once) for line in lines) == runs
    steps = [json.loads(line)["step"] for line in (folder / "two/plain/log.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (folder / "one/plain/log.jsonl").read_text().splitlines()]
    assert json.loads((folder / "two/plain/run.json").read_text())["sealed"]


def test_signal_to_one_rank_stops_both_and_resume_gives_the_same_bytes(folder: Path) -> None:
    for one in read_records(folder):
        assert one["stopped"] == [["stopped by SIGUSR1", [3]], ["stopped by SIGTERM", [9, 3]]]
        assert one["finished"] == "two/ended"
    lines = (folder / "stderr.txt").read_text().splitlines()
    hint = "two/ended: unfinished, saved up to step {}; `llmkit train --resume two/ended --processes 2` resumes it"
    assert [lines.count(hint.format(step)) for step in (3, 9)] == [1, 1]
    assert lines.count("two/ended: this run is finished; nothing to do") == 1
    for name in ("model/model.safetensors", "metrics.json", "predictions.jsonl"):
        assert (folder / "two/ended" / name).read_bytes() == (folder / "two/unbroken" / name).read_bytes()
    assert [one["after_step"] for one in json.loads((folder / "two/ended/run.json").read_text())["resumed"]] == [3, 9]


@pytest.mark.long
def test_sharded_weights_are_saved_in_full_and_resume_to_the_same(own_folder: Path) -> None:
    script = str(Path(__file__).with_name("two_shards.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert finished.returncode == 0, finished.stderr[-4000:]
    names = ["0.weight", "1.weight", "2.bias", "2.num_batches_tracked", "2.running_mean", "2.running_var", "2.weight"]
    results = [json.loads(Path(f"shards-{rank}.json").read_text()) for rank in (0, 1)]
    assert results == [[0.0, names], [0.0, []]]  # without the frozen bias


COMMAND = ("finetune-classify", "--model", "bert", "--train", "reviews.jsonl")


def start_command(folder: Path, *flags: str) -> subprocess.Popen[str]:
    """Start the user's command on two processes."""
    args = [*flags, "--processes", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "llmkit", *args],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_error_is_printed_once_with_rank_and_exit_code(folder: Path) -> None:
    process = start_command(folder, *COMMAND, "--label", "nolabel", "-o", "refused")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 65
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    prefix = "error: reviews.jsonl: no column 'nolabel'; did you mean 'label'? columns: text, label; map it with"
    assert len(errors) == 1
    assert errors[0].startswith(prefix)
    assert errors[0].endswith((" (reported by rank 0 of 2)", " (reported by rank 1 of 2)"))
    assert "Traceback" not in err
    assert out == ""
    assert not (folder / "refused").exists()


FAILING_TASK = """
import os
from llmkit.tasks.classify import Classify
class Custom(Classify):
    steps = 0
    def loss(self, outputs, batch):
        self.steps += 1
        if self.steps == 3 and os.environ["RANK"] == "1":
            raise ValueError("only here")
        return super().loss(outputs, batch)
"""


def test_error_on_one_rank_ends_both_and_is_printed_once(folder: Path) -> None:
    (folder / "custom.py").write_text(FAILING_TASK, encoding="utf-8")
    (folder / "custom.yaml").write_text(
        "task: ./custom.py\nmodel: {name: bert}\ndata: {train: reviews.jsonl}\n", encoding="utf-8"
    )
    process = start_command(folder, "train", "custom.yaml", "-o", "alone")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 70
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    message = "error: custom.py, line 9, in loss: ValueError: only here; run it with --debug to see the traceback"
    assert errors == [f"{message} (reported by rank 1 of 2)"]
    assert "Traceback" not in err
    assert out == ""


ENDLESS = ("train.num_train_epochs=9999", "train.eval_strategy=no", "train.save_strategy=no", "train.ddp_timeout=4")


def start_training(folder: Path, name: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a run that trains, and return it with its second process."""
    process = start_command(folder, *COMMAND, *ENDLESS, "train.logging_steps=1", "-o", name)
    deadline = time.monotonic() + 120
    while not (folder / name / "log.jsonl").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    run_script = psutil.Process(process.pid).children()
    return process, next(one for one in run_script if one.environ().get("RANK") == "1")


@pytest.mark.parametrize(
    ("number", "to_all", "code", "message"),
    [(signal.SIGUSR1, True, 75, "stopped by SIGUSR1"), (signal.SIGINT, False, 130, "interrupted")],
)
def test_signal_to_all_processes_counts_once_and_the_step_is_saved(
    folder: Path, number: signal.Signals, to_all: bool, code: int, message: str
) -> None:
    """Simulates a batch system, where the launcher forwards a signal that its processes have received already."""
    process, _ = start_training(folder, number.name)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children() * to_all]:
        one.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [f"error: {message}"]
    assert f"{number.name}: unfinished, saved up to step " in err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_killed_or_stopped_rank_ends_the_job_and_is_named(folder: Path, number: signal.Signals) -> None:
    process, second = start_training(folder, number.name)
    second.send_signal(number)
    _, err = process.communicate(timeout=60)  # without the heartbeat the collective operation would fail after 64 s
    assert process.returncode == 70
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: rank 1 of 2")
    if number == signal.SIGSTOP:
        assert f"(process {second.pid} on " in errors[0]
        assert "sent no heartbeat for 4 s; it was killed, stopped, or lost its machine" in errors[0]
    assert "Traceback" not in err
    assert not second.is_running()
