"""Tests that a run that is killed and resumed ends with the same bytes as an uninterrupted one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.errors import DiskError, OutputError
from llmkit.recipe.load import load_recipe
from llmkit.runs import checkpoint, durable
from llmkit.runs.manifest import hash_file
from llmkit.testing import make_reviews, make_sentences, write_jsonl, write_lines
from llmkit.training import run as runs
from llmkit.training import save
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

TIMES = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second",
         "train_tokens_per_second", "checkpoint_seconds", "checkpoint_bytes"}  # fmt: skip
EACH_STEP = ("train.eval_strategy=steps", "train.eval_steps=2", "train.save_strategy=steps", "train.save_steps=2")
KEYS = ("train.learning_rate=1e-2", "train.per_device_train_batch_size=8", "train.logging_steps=1", "eval.baselines=[]")
LONG = pytest.mark.long  # tests/faults/test_sample.py or another test here has a short case of the same kind


class Killed(BaseException):
    """Simulates kill -9 within the test process: llmkit does not catch it."""


def classify(model: str, *keys: str, out: str, **flags: Any) -> Any:
    data = write_jsonl("r.jsonl", make_reviews(40))
    return llmkit.train(None, *KEYS, *keys, task="classify", model=model, train=data, output_dir=out, **flags)


def mlm(model: str, *keys: str, out: str) -> Any:
    data = write_lines("c.txt", make_sentences(60))
    lengths = ("model.max_length=32", "train.per_device_train_batch_size=4")
    return llmkit.train(None, KEYS[0], *KEYS[2:], *lengths, *keys, task="mlm", model=model, train=data, output_dir=out)


def read_result(run: str) -> tuple[str, str, list[dict[str, Any]]]:
    """Return the hash of the weights, the scores, and the log without times."""
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return hash_file(Path(run, "model/model.safetensors")), Path(run, "metrics.json").read_text(encoding="utf-8"), log


@contextmanager
def kill_in_step(number: int) -> Iterator[None]:
    """Kill the run at the beginning of that step."""
    step = StepTrainer.training_step

    def step_or_kill(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == number:
            raise Killed
        return step(self, *args)

    with patch_attributes((StepTrainer, "training_step", step_or_kill)), pytest.raises(Killed):
        yield


@contextmanager
def patch_attributes(*attributes: tuple[Any, str, Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for one in attributes:
            patch.setattr(*one)
        yield


def train_with_kills(train: Any, keys: Sequence[str], kills: Sequence[int], model: str) -> None:
    """Kill a run in each of these steps in turn, then let it finish."""
    for number in kills:
        with kill_in_step(number):
            train(model, *keys, out="killed")
    train(model, *keys, out="killed")


@pytest.mark.parametrize(
    ("keys", "kills"),
    [
        ((), [6, 7, 8]),  # around the end of an epoch: five steps each, the last one short
        (EACH_STEP, [4, 9]),
        pytest.param((*EACH_STEP, "train.precision=bf16"), [8], marks=LONG),
        pytest.param((*EACH_STEP, "train.fast_path=off"), [8], marks=LONG),
        ((*EACH_STEP, "train.max_steps=7", "eval.early_stopping_patience=3"), [5, 7]),
        ((*EACH_STEP, "train.dataloader_num_workers=1", "train.hf.dataloader_persistent_workers=true"), [7]),
        (("train.save_strategy=steps", "train.save_steps=3", "train.eval_strategy=no", "train.optim=adafactor"), [8]),
    ],
    ids=["epoch", "steps", "bf16", "plain", "patience", "workers", "adafactor"],
)
def test_resumed_classifier_is_identical(tiny: str, keys: tuple[str, ...], kills: list[int]) -> None:
    classify(tiny, *keys, out="reference")
    train_with_kills(classify, keys, kills, tiny)
    assert read_result("killed") == read_result("reference")
    assert not Path("killed/checkpoints").exists()


@pytest.mark.parametrize(
    "keys",
    [pytest.param(("train.max_steps=10",), marks=LONG), ("train.max_steps=10", "train.precision=bf16", "train.fast_path=off"),
     ("train.max_steps=40", "data.streaming=true", "data.split.validation=0.3")],
    ids=["rows", "bf16", "stream"],
)  # fmt: skip
def test_resumed_masked_language_model_is_identical(tiny_mlm: str, keys: tuple[str, ...]) -> None:
    save_keys = ("train.eval_strategy=no", "train.save_strategy=steps", "train.save_steps=2")
    mlm(tiny_mlm, *keys, *save_keys, out="reference")
    kills = [4, 9] if "train.max_steps=10" in keys else [4, 29, 40]
    train_with_kills(mlm, (*keys, *save_keys), kills, tiny_mlm)
    assert read_result("killed") == read_result("reference")


def test_from_config_run_resumes_with_its_learning_rate(tiny_mlm: str, capsys: pytest.CaptureFixture[str]) -> None:
    def train(out: str) -> Any:
        keys = ("model.from_config=bert-tiny", f"model.tokenizer={tiny_mlm}", "train.max_steps=6", "train.save_steps=2")
        other_keys = ("train.eval_strategy=no", "train.save_strategy=steps", *KEYS[2:], "model.max_length=32")
        data = write_lines("c.txt", make_sentences(60))
        return llmkit.train(None, *keys, *other_keys, task="mlm", train=data, output_dir=out)

    train("reference")
    for run in ("killed", "again"):
        with kill_in_step(4):
            train(run)
    assert (
        capsys.readouterr().err.count(
            "bert-tiny: train.learning_rate 0.001, as models trained from scratch need, not 5e-05; "
        )
        == 3
    )
    llmkit.train(resume="killed")
    train("again")
    llmkit.train("reference/recipe.yaml", output_dir="written")
    train("reference")
    assert "reference: this run is finished; nothing to do\n" in capsys.readouterr().err
    assert read_result("killed") == read_result("again") == read_result("written") == read_result("reference")
    assert load_recipe("reference/recipe.yaml").train.learning_rate == 1e-3


@contextmanager
def fail_disk_change(number: int, error: BaseException, subfolder: str = "checkpoints") -> Iterator[None]:
    """Make the n-th change on the disk below `subfolder` fail."""
    count = 0

    def count_change(what: str, path: Path) -> None:
        nonlocal count
        if subfolder in str(path):
            count += 1
            if count == number:
                raise error

    with patch_attributes((durable, "before_disk_change", count_change)):
        yield


@LONG
@pytest.mark.parametrize("number", [15, 21, 26])
def test_kill_during_a_write_keeps_the_previous_checkpoint(tiny: str, number: int) -> None:
    classify(tiny, *EACH_STEP, out="reference")
    with fail_disk_change(number, Killed()), pytest.raises(Killed):
        classify(tiny, *EACH_STEP, out="killed")
    steps = checkpoint.list_checkpoint_steps(Path("killed/checkpoints"))
    assert steps
    assert all(checkpoint.verify_checkpoint(Path(f"killed/checkpoints/checkpoint-{step}")) for step in steps)
    classify(tiny, *EACH_STEP, out="killed")
    assert read_result("killed") == read_result("reference")


def test_full_disk_is_a_disk_error_and_the_run_can_resume(tiny: str) -> None:
    with fail_disk_change(20, OSError(28, "No space left on device")), pytest.raises(DiskError) as error:
        classify(tiny, *EACH_STEP, out="run")
    messages = str(error.value)
    assert messages.startswith("run/checkpoints/checkpoint-4: No space left on device (")
    assert messages.endswith("MiB); free some space and repeat the same command: it resumes after step 2")
    assert [one.name for one in Path("run/checkpoints").iterdir()] == ["checkpoint-2"]
    assert classify(tiny, *EACH_STEP, out="run").report is not None


def leave_unfinished(model: str, *keys: str, step: int = 7) -> None:
    """Leave an unfinished run in `run`, killed in that step."""
    with kill_in_step(step):
        classify(model, *EACH_STEP, *keys, out="run")


def flip_bit(step: int) -> None:
    """Flip a bit in the weights of that checkpoint."""
    weights = Path(f"run/checkpoints/checkpoint-{step}/weights.safetensors")
    bytes_ = bytearray(weights.read_bytes())
    bytes_[-1] ^= 1
    weights.write_bytes(bytes_)


def test_damaged_checkpoint_is_quarantined_and_the_previous_one_used(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(tiny, *EACH_STEP, out="reference")
    leave_unfinished(tiny, "train.save_total_limit=3")
    flip_bit(6)
    capsys.readouterr()
    run = classify(tiny, *EACH_STEP, "train.save_total_limit=3", out="run")
    messages = capsys.readouterr().err
    path = "run/checkpoints/checkpoint-6"
    assert (
        f"{path}: damaged: weights.safetensors has changed since it was written; renamed to checkpoint-6.corrupt\n"
        in messages
    )
    assert "run: resumes after step 4, the newest valid checkpoint\n" in messages
    assert read_result(str(run.path)) == read_result("reference")


def test_damaged_named_checkpoint_is_rejected_and_others_are_kept(tiny: str) -> None:
    leave_unfinished(tiny, "train.save_total_limit=4", step=9)
    about, steps = (
        Path("run/run.json").read_text(encoding="utf-8"),
        checkpoint.list_checkpoint_steps(Path("run/checkpoints")),
    )
    flip_bit(6)
    with pytest.raises(OutputError) as error:
        llmkit.train(resume="run/checkpoints/checkpoint-6")
    assert str(error.value) == "run/checkpoints/checkpoint-6: cannot be resumed from; --resume run chooses another"
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [step for step in steps if step != 6]
    assert Path("run/checkpoints/checkpoint-6.corrupt").is_dir()
    assert Path("run/run.json").read_text(encoding="utf-8") == about


def test_quarantined_checkpoints_are_kept_until_the_seal(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    leave_unfinished(tiny, step=5)
    steps = checkpoint.list_checkpoint_steps(Path("run/checkpoints"))
    for step in steps:
        flip_bit(step)
    capsys.readouterr()
    leave_unfinished(tiny, step=2)
    messages = capsys.readouterr().err
    for step in steps:
        assert f"renamed to checkpoint-{step}.corrupt\n" in messages
    assert "run: the run there did not finish; it starts again from its first step\n" in messages
    assert {one.name for one in Path("run/checkpoints").iterdir()} == {f"checkpoint-{step}.corrupt" for step in steps}
    classify(tiny, *EACH_STEP, out="run")
    assert not Path("run/checkpoints").exists()


@pytest.mark.parametrize(
    "function",
    ["calibrate_task", pytest.param("save_and_verify", marks=LONG), pytest.param("score_and_write", marks=LONG)],
)
def test_run_killed_after_training_is_not_trained_again(tiny: str, function: str) -> None:
    module = save if function == "save_and_verify" else runs

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    classify(tiny, out="reference")
    with patch_attributes((module, function, killed)), pytest.raises(Killed):
        classify(tiny, out="run")
    with patch_attributes((StepTrainer, "training_step", killed)):
        classify(tiny, out="run")
    assert read_result("run") == read_result("reference")


def test_finished_run_is_reported_and_unchanged(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = classify(tiny, "train.max_steps=1", out="run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    capsys.readouterr()
    Path("run/checkpoints/checkpoint-1").mkdir(parents=True)  # left by a kill after the seal
    finished = classify(tiny, "train.max_steps=1", out="run")
    assert not Path("run/checkpoints").exists()
    assert capsys.readouterr().err == "run: this run is finished; nothing to do\n"
    assert (finished.path, finished.scores()) == (first.path, first.scores())
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    write_jsonl("r.jsonl", make_reviews(42))
    with pytest.raises(OutputError) as error:
        llmkit.train(None, *KEYS, "train.max_steps=1", task="classify", model=tiny, train="r.jsonl", output_dir="run")
    assert (
        str(error.value)
        == "run: holds a finished run, and r.jsonl has changed since; name another --output-dir, or remove the folder"
    )


def test_other_recipe_is_rejected_with_a_table(tiny: str) -> None:
    leave_unfinished(tiny)
    with pytest.raises(OutputError) as error:
        classify(tiny, *EACH_STEP, "train.weight_decay=0.5", "train.num_train_epochs=4", out="run")
    assert str(error.value) == (
        "run: holds an unfinished run that was started with other settings; repeat the command that started it, or name "
        "another --output-dir\n"
        "  key                     then  now\n"
        "  train.num_train_epochs  3.0   4.0\n"
        "  train.weight_decay      0.01  0.5"
    )


def test_allowed_change_is_applied_and_recorded(tiny: str) -> None:
    leave_unfinished(tiny)
    keys = ("train.num_train_epochs=4", "train.learning_rate=2e-2")
    with pytest.raises(OutputError) as error:
        classify(tiny, *EACH_STEP, *keys, out="run")
    assert "or allow it with --allow-change train.learning_rate --allow-change train.num_train_epochs\n" in str(
        error.value
    )
    classify(tiny, *EACH_STEP, *keys, out="run", allow_change=["train.learning_rate", "train.num_train_epochs"])
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    assert max(rates) == 16
    assert rates[8] == pytest.approx(2e-2 * (1 - 5 / 14), abs=1e-3)  # two of sixteen steps are warm-up
    about = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["resumed"][0]
    assert about["after_step"] == 6
    assert about["changed"] == [["train.learning_rate", 0.01, 0.02], ["train.num_train_epochs", 3.0, 4.0]]


@pytest.mark.parametrize(
    ("key", "end"), [("train.max_steps=3", 3), ("train.num_train_epochs=0.5", 2)], ids=["steps", "epochs"]
)
def test_end_before_the_current_step_is_rejected_without_changes(tiny: str, key: str, end: int) -> None:
    leave_unfinished(tiny)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    name = key.split("=")[0]
    with pytest.raises(OutputError) as error:
        classify(tiny, *EACH_STEP, key, out="run", allow_change=[name])
    assert str(error.value) == (
        f"run: {key} ends training at step {end}, but step 6 is already done; choose a later end, or name another --output-dir"
    )
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    classify(tiny, *EACH_STEP, out="run")


def test_rejected_resume_from_a_checkpoint_keeps_later_ones(tiny: str) -> None:
    leave_unfinished(tiny, "train.save_total_limit=4", step=9)
    steps = checkpoint.list_checkpoint_steps(Path("run/checkpoints"))
    keys = ("train.save_total_limit=4", "train.max_steps=3")
    with pytest.raises(
        OutputError, match=r"^run: train\.max_steps=3 ends training at step 3, but step 4 is already done; "
    ):
        classify(
            tiny, *EACH_STEP, *keys, out="run", resume="run/checkpoints/checkpoint-4", allow_change=["train.max_steps"]
        )
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == steps == [8, 6, 4, 2]


def test_other_data_and_other_model_are_rejected(tiny: str, tiny_classifier: str) -> None:
    leave_unfinished(tiny)
    before = sorted(Path("run").rglob("*"))
    write_jsonl("r.jsonl", make_reviews(41))
    with pytest.raises(
        OutputError, match=r"(?s)started with other settings.*data r\.jsonl +[0-9a-f]{12} +[0-9a-f]{12}$"
    ):
        llmkit.train(None, *KEYS, *EACH_STEP, task="classify", model=tiny, train="r.jsonl", output_dir="run")
    assert sorted(Path("run").rglob("*")) == before


def test_resume_needs_no_other_argument_and_accepts_a_checkpoint(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    classify(tiny, *EACH_STEP, out="reference")
    leave_unfinished(tiny, "train.save_total_limit=3", step=9)
    assert {8, 6} <= {*checkpoint.list_checkpoint_steps(Path("run/checkpoints"))}
    run = llmkit.train(resume="run/checkpoints/checkpoint-6")
    assert str(run.path) == "run"
    assert "run: resumes after step 6, the named checkpoint; later ones are removed\n" in capsys.readouterr().err
    assert read_result("run") == read_result("reference")
