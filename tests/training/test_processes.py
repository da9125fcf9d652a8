"""Two processes on CPUs, real ones: the same update, the same scores, and one sentence for what goes wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.testing import reviews, sentences, tiny_model, write_jsonl, write_lines

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# A last step of 1 row for two processes; then 7 rows a step, one at a time: unequal parts, several passes.
PLAIN = ("train.num_train_epochs=1", "train.batch_size=8", "train.learning_rate=0.05", "train.optim=sgd",
         "train.max_grad_norm=0", "data.split.test=0.2", "data.split.validation=0.2", "eval.batch_size=3")  # fmt: skip
CUT = ("train.num_train_epochs=1", "train.per_device_train_batch_size=1", "train.gradient_accumulation_steps=7",
       "train.learning_rate=0.05", "train.optim=sgd", "train.max_grad_norm=0", "train.shortcuts=off",
       "model.max_length=24")  # fmt: skip
# With dropout, whose generators each process has of its own; 10 steps, scored after 5 and 10.
LASTING = ("train.num_train_epochs=2", "train.batch_size=8", "train.learning_rate=0.01", "eval.batch_size=2",
           "train.logging_steps=1", "model.config={hidden_dropout_prob: 0.1}")  # fmt: skip
MASKED = ("train.max_steps=3", "train.batch_size=5", "train.learning_rate=0.05", "train.optim=sgd")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data and tiny models, and the runs of one process and of two in it."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_jsonl("reviews.jsonl", reviews(83))
        write_lines("corpus.txt", sentences(60))
        tiny_model("bert", **NO_DROPOUT)
        tiny_model("masked", auto_class="AutoModelForMaskedLM", texts=sentences(60), **NO_DROPOUT)
        classify = {"task": "classify", "model": "bert", "train": "reviews.jsonl"}
        mlm = {"task": "mlm", "model": "masked", "train": "corpus.txt"}
        jobs = [(PLAIN, classify, "plain"), (CUT, classify, "cut"), (MASKED, mlm, "masked-lm")]
        for keys, words, name in jobs:
            llmkit.train(None, *keys, **words, output_dir=f"one/{name}")
        jobs += [(LASTING, classify, "unbroken"), (LASTING, classify, "ended")]
        Path("jobs.json").write_text(
            json.dumps([(keys, words | {"output_dir": f"two/{name}"}) for keys, words, name in jobs])
        )
        script = Path(__file__).with_name("two_processes.py")
        command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", str(script), "jobs.json"]
        done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        Path("stderr.txt").write_text(done.stderr)
        yield folder


def seen(home: Path) -> list[dict[str, Any]]:
    return [json.loads((home / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm"])
def test_the_update_of_two_is_that_of_one(home: Path, name: str) -> None:
    one, two = (load_file(home / number / name / "model" / "model.safetensors") for number in ("one", "two"))
    assert one.keys() == two.keys()
    prefix, model = ("", "masked") if name == "masked-lm" else ("bert.", "bert")
    start = {prefix + key: weight for key, weight in load_file(home / model / "model.safetensors").items()}
    assert max(float((one[key] - start[key]).abs().max()) for key in one.keys() & start) > 1e-3  # it has learned
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-6)


def test_the_parts_were_unequal_and_one_was_empty(home: Path) -> None:
    first, second = seen(home)
    rows = [list(pair) for pair in zip(first["rows"], second["rows"], strict=True)]
    assert [4, 3] in rows
    assert [1, 1] in rows  # a last step of one row: the second process's batch counts for nothing
    assert first["losses"] == second["losses"]
    assert any(one != two for one, two in zip(first["passes"], second["passes"], strict=True))
    assert max(first["passes"]) > 1
    assert first["wrappers"] == second["wrappers"] == ["DistributedDataParallel"] * len(first["wrappers"])
    assert first["packed"][:3] == second["packed"][:3] == [True, False, True]


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm"])
def test_the_scores_of_two_are_those_of_one(home: Path, name: str) -> None:
    one, two = (json.loads((home / number / name / "metrics.json").read_text()) for number in ("one", "two"))
    assert one["n"] == two["n"]
    assert one["n"] == 17 or name != "plain"
    for metric, score in one["metrics"].items():
        assert two["metrics"][metric]["value"] == pytest.approx(score["value"], rel=1e-5)
    lines = [(home / number / name / "predictions.jsonl").read_text().splitlines() for number in ("one", "two")]
    assert [json.loads(line).get("text") for line in lines[0]] == [json.loads(line).get("text") for line in lines[1]]


def test_the_processes_agree(home: Path) -> None:
    for one in seen(home):
        assert one["agreed"] == [True, False]
        assert one["gathered"] == ["rank 0", "rank 1"]
        assert one["summed"] == [2.0, 1.0]
        assert one["from_first"] == 0
        assert one["same_answers"] is True


def test_the_first_alone_speaks_writes_and_reports(home: Path) -> None:
    assert [one["reports"] for one in seen(home)] == [[True] * 4, [False] * 4]
    said = (home / "stderr.txt").read_text().splitlines()
    for rows, runs in ((8, 6), (7, 1), (5, 1)):
        assert said.count(f"2 processes (ddp): each step's {rows} rows divided among them") == runs
    steps = [json.loads(line)["step"] for line in (home / "two/plain/log.jsonl").read_text().splitlines()]
    assert steps == [json.loads(line)["step"] for line in (home / "one/plain/log.jsonl").read_text().splitlines()]
    assert json.loads((home / "two/plain/run.json").read_text())["sealed"]


def test_a_signal_to_one_ends_both_after_the_same_step_and_they_go_on_to_the_same_bytes(home: Path) -> None:
    for one in seen(home):
        assert one["stopped"] == [["stopped by SIGUSR1", [3]], ["stopped by SIGTERM", [9, 3]]]
        assert one["finished"] == "two/ended"
    said = (home / "stderr.txt").read_text().splitlines()
    how = "two/ended: unfinished, committed up to step {}; `llmkit train --resume two/ended --processes 2` goes on"
    assert [said.count(how.format(step)) for step in (3, 9)] == [1, 1]
    assert said.count("two/ended: this run is finished; nothing was left to do") == 1
    for name in ("model/model.safetensors", "metrics.json", "predictions.jsonl"):
        assert (home / "two/ended" / name).read_bytes() == (home / "two/unbroken" / name).read_bytes()
    assert [one["after_step"] for one in json.loads((home / "two/ended/run.json").read_text())["resumed"]] == [3, 9]


@pytest.mark.long
def test_weights_in_shares_are_written_whole_and_go_on_to_the_same(own_folder: Path) -> None:
    script = str(Path(__file__).with_name("two_shares.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    whole = ["0.weight", "1.weight", "2.bias", "2.num_batches_tracked", "2.running_mean", "2.running_var", "2.weight"]
    found = [json.loads(Path(f"shares-{rank}.json").read_text()) for rank in (0, 1)]
    assert found == [[0.0, whole], [0.0, []]]  # the frozen bias is not among them


def command(home: Path, *words: str) -> subprocess.Popen[str]:
    """The command on two processes, that of a user."""
    given = ["finetune-classify", "--model", "bert", "--train", "reviews.jsonl", "--processes", "2", *words]
    return subprocess.Popen(
        [sys.executable, "-m", "llmkit", *given],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_mistake_is_said_once_with_its_rank_and_code(home: Path) -> None:
    process = command(home, "--label", "nolabel", "-o", "refused")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 65
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    what = "error: reviews.jsonl: no column 'nolabel'; did you mean 'label'? columns: text, label; map it with"
    assert len(errors) == 1
    assert errors[0].startswith(what)
    assert errors[0].endswith((" (said by rank 0 of 2)", " (said by rank 1 of 2)"))
    assert "Traceback" not in err
    assert out == ""
    assert not (home / "refused").exists()


FOREVER = ("train.num_train_epochs=9999", "train.eval_strategy=no", "train.save_strategy=no", "train.ddp_timeout=4")


def learning(home: Path, name: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A run that learns, and its second process."""
    process = command(home, *FOREVER, "train.logging_steps=1", "-o", name)
    until = time.monotonic() + 120
    while not (home / name / "log.jsonl").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    started = psutil.Process(process.pid).children()
    return process, next(one for one in started if one.environ().get("RANK") == "1")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_process_ends_the_job_and_is_named(home: Path, how: signal.Signals) -> None:
    process, second = learning(home, how.name)
    second.send_signal(how)
    began = time.monotonic()
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - began < 20
    assert process.returncode == 70
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: rank 1 of 2")
    if how == signal.SIGSTOP:
        assert f"(process {second.pid} on " in errors[0]
        assert "gave no sign of life for 4 s; it was killed, stopped, or lost its machine" in errors[0]
    assert "Traceback" not in err
    assert not second.is_running()
