"""Two processes on CPUs, real ones: the same update, the same scores, and one sentence for what goes wrong."""

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
from tests.training.two_processes import recording, sending

NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
# A last step of 1 row for two processes; then 7 rows a step, one at a time: unequal parts, several passes.
PLAIN = ("train.num_train_epochs=1", "train.batch_size=8", "train.learning_rate=0.05", "train.optim=sgd",
         "train.max_grad_norm=0", "data.split.test=0.2", "data.split.validation=0.2", "eval.batch_size=3")  # fmt: skip
CUT = ("train.num_train_epochs=1", "train.per_device_train_batch_size=1", "train.gradient_accumulation_steps=7",
       "train.learning_rate=0.05", "train.optim=sgd", "train.max_grad_norm=0", "train.fast_path=off",
       "model.max_length=24")  # fmt: skip
# With dropout, whose generators each process has of its own; 10 steps, scored after 5 and 10.
LASTING = ("train.num_train_epochs=2", "train.batch_size=8", "train.learning_rate=0.01", "eval.batch_size=2",
           "train.logging_steps=1", "model.config={hidden_dropout_prob: 0.1}")  # fmt: skip
# Two epochs of 7 steps, begun on two processes, gone on with on one, and ended on two.
MOVED = ("train.num_train_epochs=2", *PLAIN[1:])
SUMMARIES = ("train.max_steps=6", "train.batch_size=8", "train.learning_rate=0.05", "train.optim=sgd",
             "train.max_grad_norm=0", "train.logging_steps=2", "eval.batch_size=3", "data.split.test=0.1", "data.split.validation=0.1")  # fmt: skip
MASKED = ("train.max_steps=3", "train.batch_size=5", "train.learning_rate=0.05", "train.optim=sgd")


Job = tuple[Sequence[str], dict[str, str], str]


def started(*words: str) -> subprocess.CompletedProcess[str]:
    """Two processes of the script, both ended well."""
    script = str(Path(__file__).with_name("two_processes.py"))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with data and tiny models, and the runs of one process and of two in it."""
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
        plain: list[Job] = [(PLAIN, classify, "plain"), (CUT, classify, "cut"), (MASKED, mlm, "masked-lm"),
                            (SUMMARIES, summarize, "summaries")]  # fmt: skip
        for keys, words, name in [*plain, (MOVED, classify, "moved")]:
            llmkit.train(None, *keys, **words, output_dir=f"one/{name}")

        def job(keys: Sequence[str], words: dict[str, str], name: str) -> tuple[Sequence[str], dict[str, str]]:
            return keys, words | {"output_dir": f"two/{name}"}

        jobs = {
            "plain": [job(*one) for one in [*plain, (LASTING, classify, "unbroken")]],
            "ended": job(LASTING, classify, "ended"),
            "moved": job(MOVED, classify, "moved"),
        }
        Path("jobs.json").write_text(json.dumps(jobs))
        done = started("jobs.json")
        Path("stderr.txt").write_text(done.stderr)
        yield folder


def seen(home: Path) -> list[dict[str, Any]]:
    return [json.loads((home / f"seen-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm", "summaries"])
def test_the_update_of_two_is_that_of_one(home: Path, name: str) -> None:
    one, two = (load_file(home / number / name / "model" / "model.safetensors") for number in ("one", "two"))
    assert one.keys() == two.keys()
    prefix, model = {"masked-lm": ("", "masked"), "summaries": ("", "t5")}.get(name, ("bert.", "bert"))
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


@pytest.mark.parametrize("name", ["plain", "cut", "masked-lm", "summaries"])
def test_the_scores_of_two_are_those_of_one(home: Path, name: str) -> None:
    one, two = (json.loads((home / number / name / "metrics.json").read_text()) for number in ("one", "two"))
    assert one["n"] == two["n"]
    assert one["n"] == 17 or name != "plain"
    for metric, score in one["metrics"].items():
        assert two["metrics"][metric]["value"] == pytest.approx(score["value"], rel=1e-5)
    lines = [(home / number / name / "predictions.jsonl").read_text().splitlines() for number in ("one", "two")]
    rows = [[json.loads(line) for line in some] for some in lines]
    assert [row.get("text") for row in rows[0]] == [row.get("text") for row in rows[1]]
    if name == "summaries":
        assert rows[0] == rows[1]
        assert one["n"] == 7
        assert len({row["answer"] for row in rows[0]}) > 1


def test_a_run_moves_from_two_processes_to_one_and_back(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each row once an epoch, in the order of a run that never moved, and to the same weights."""
    monkeypatch.chdir(home)
    words: dict[str, Any] = {"task": "classify", "model": "bert", "train": "reviews.jsonl", "output_dir": "two/moved"}
    with pytest.raises(OutputError) as caught:
        llmkit.train(None, *MOVED, **words)
    assert "processes  2     1" in str(caught.value)
    assert "allow it with --allow-change processes" in str(caught.value)
    alone: dict[str, Any] = {}
    for name in ("_prepare_for_training", "training_step"):
        monkeypatch.setattr(StepTrainer, name, getattr(StepTrainer, name))  # puts back what `recording` sets
    recording(alone)
    with pytest.raises(RunInterrupted), sending(signal.SIGUSR1, "training_step", 8):
        llmkit.train(None, *MOVED, allow_change=["processes"], **words)
    started("jobs.json", "again")
    first, last = seen(home), [json.loads((home / f"again-{rank}.json").read_text()) for rank in (0, 1)]
    for before, after in zip(first, last, strict=True):
        assert "processes  1     2" in after["refused"]
        steps = [*before["moved"], *alone["numbers"], *after["numbers"]]
        assert steps == [step for epoch in (0, 1) for step in in_order(epoch)]
    assert (len(first[0]["moved"]), len(alone["numbers"]), len(last[0]["numbers"])) == (3, 6, 5)
    one, two = (load_file(home / number / "moved" / "model" / "model.safetensors") for number in ("one", "two"))
    for key, weight in one.items():
        torch.testing.assert_close(two[key], weight, rtol=0, atol=1e-6)
    resumed = json.loads((home / "two/moved/run.json").read_text())["resumed"]
    assert [(part["after_step"], part["changed"]) for part in resumed] == [
        (3, [["processes", 2, 1]]),
        (9, [["processes", 1, 2]]),
    ]


def in_order(epoch: int) -> list[list[int]]:
    """The rows of each step of 49 rows, 8 a step: those of the seed and the epoch alone."""
    steps = StepSampler(49, 8, seed=42)
    steps.set_epoch(epoch)
    assert sorted(row for step in steps for row in step) == list(range(49))
    return list(steps)


def test_the_processes_agree(home: Path) -> None:
    for one in seen(home):
        assert one["agreed"] == [True, False]
        assert one["gathered"] == ["rank 0", "rank 1"]
        assert one["summed"] == [2.0, 1.0]
        assert one["from_first"] == 0
        assert one["same_answers"] == dict.fromkeys(("two/cut", "two/plain", "two/summaries", "two/unbroken"), True)


def test_the_first_alone_speaks_writes_and_reports(home: Path) -> None:
    assert [one["reports"] for one in seen(home)] == [[True] * 5, [False] * 5]
    said = (home / "stderr.txt").read_text().splitlines()
    for rows, runs in ((8, 8), (7, 1), (5, 1)):
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


LEARN = ("finetune-classify", "--model", "bert", "--train", "reviews.jsonl")


def command(home: Path, *words: str) -> subprocess.Popen[str]:
    """The command on two processes, that of a user."""
    given = [*words, "--processes", "2"]
    return subprocess.Popen(
        [sys.executable, "-m", "llmkit", *given],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def test_a_mistake_is_said_once_with_its_rank_and_code(home: Path) -> None:
    process = command(home, *LEARN, "--label", "nolabel", "-o", "refused")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 65
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    what = "error: reviews.jsonl: no column 'nolabel'; did you mean 'label'? columns: text, label; map it with"
    assert len(errors) == 1
    assert errors[0].startswith(what)
    assert errors[0].endswith((" (reported by rank 0 of 2)", " (reported by rank 1 of 2)"))
    assert "Traceback" not in err
    assert out == ""
    assert not (home / "refused").exists()


FAILS_ALONE = """
import os
from llmkit.tasks.classify import Classify
class Own(Classify):
    steps = 0
    def loss(self, outputs, batch):
        self.steps += 1
        if self.steps == 3 and os.environ["RANK"] == "1":
            raise ValueError("only here")
        return super().loss(outputs, batch)
"""


def test_an_error_of_one_process_alone_ends_both_and_is_said_once(home: Path) -> None:
    (home / "own.py").write_text(FAILS_ALONE, encoding="utf-8")
    (home / "own.yaml").write_text(
        "task: ./own.py\nmodel: {name: bert}\ndata: {train: reviews.jsonl}\n", encoding="utf-8"
    )
    process = command(home, "train", "own.yaml", "-o", "alone")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 70
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    why = "error: own.py, line 9, in loss: ValueError: only here; run it with --debug to see how it came there"
    assert errors == [f"{why} (reported by rank 1 of 2)"]
    assert "Traceback" not in err
    assert out == ""


FOREVER = ("train.num_train_epochs=9999", "train.eval_strategy=no", "train.save_strategy=no", "train.ddp_timeout=4")


def learning(home: Path, name: str) -> tuple[subprocess.Popen[str], psutil.Process]:
    """A run that learns, and its second process."""
    process = command(home, *LEARN, *FOREVER, "train.logging_steps=1", "-o", name)
    until = time.monotonic() + 120
    while not (home / name / "log.jsonl").exists():
        assert time.monotonic() < until
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    started = psutil.Process(process.pid).children()
    return process, next(one for one in started if one.environ().get("RANK") == "1")


@pytest.mark.parametrize(
    ("number", "everywhere", "code", "said"),
    [(signal.SIGUSR1, True, 75, "stopped by SIGUSR1"), (signal.SIGINT, False, 130, "interrupted")],
)
def test_a_signal_that_comes_to_all_at_once_counts_once_and_the_step_is_saved(
    home: Path, number: signal.Signals, everywhere: bool, code: int, said: str
) -> None:
    """As a batch system stops a job: the launcher hands on what its processes have had already."""
    process, _ = learning(home, number.name)
    for one in [psutil.Process(process.pid), *psutil.Process(process.pid).children() * everywhere]:
        one.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert [line for line in err.splitlines() if line.startswith("error: ")] == [f"error: {said}"]
    assert f"{number.name}: unfinished, committed up to step " in err


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
def test_a_killed_or_stopped_process_ends_the_job_and_is_named(home: Path, how: signal.Signals) -> None:
    process, second = learning(home, how.name)
    second.send_signal(how)
    _, err = process.communicate(timeout=60)  # a collective operation alone would fail after 64 s
    assert process.returncode == 70
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: rank 1 of 2")
    if how == signal.SIGSTOP:
        assert f"(process {second.pid} on " in errors[0]
        assert "gave no sign of life for 4 s; it was killed, stopped, or lost its machine" in errors[0]
    assert "Traceback" not in err
    assert not second.is_running()
