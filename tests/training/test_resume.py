"""A run that was killed and started again ends with the very bytes of one that was not."""

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

TIMES = {"tokens_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second",
         "train_tokens_per_second", "checkpoint_seconds", "checkpoint_bytes"}  # fmt: skip
EACH_STEP = ("train.eval_strategy=steps", "train.eval_steps=2", "train.save_strategy=steps", "train.save_steps=2")
KEYS = ("train.learning_rate=1e-2", "train.per_device_train_batch_size=8", "train.logging_steps=1", "eval.baselines=[]")
LONG = pytest.mark.long  # tests/faults/test_sample.py has a case of the kind, or another test here


class Killed(BaseException):
    """As kill -9, but for the test: nothing in llmkit catches it."""


def classify(model: str, *keys: str, out: str, **words: Any) -> Any:
    data = write_jsonl("r.jsonl", make_reviews(40))
    return llmkit.train(None, *KEYS, *keys, task="classify", model=model, train=data, output_dir=out, **words)


def mlm(model: str, *keys: str, out: str) -> Any:
    data = write_lines("c.txt", make_sentences(60))
    lengths = ("model.max_length=32", "train.per_device_train_batch_size=4")
    return llmkit.train(None, KEYS[0], *KEYS[2:], *lengths, *keys, task="mlm", model=model, train=data, output_dir=out)


def result(run: str) -> tuple[str, str, list[dict[str, Any]]]:
    """The bytes of the weights, the scores, and the log but for times."""
    lines = [json.loads(line) for line in Path(run, "log.jsonl").read_text(encoding="utf-8").splitlines()]
    log = [{name: value for name, value in line.items() if name not in TIMES} for line in lines]
    return hash_file(Path(run, "model/model.safetensors")), Path(run, "metrics.json").read_text(encoding="utf-8"), log


@contextmanager
def killed_in_step(number: int) -> Iterator[None]:
    """A kill at the beginning of that step."""
    step = StepTrainer.training_step

    def killing(self: StepTrainer, *args: Any) -> Any:
        if self.state.global_step + 1 == number:
            raise Killed
        return step(self, *args)

    with patched((StepTrainer, "training_step", killing)), pytest.raises(Killed):
        yield


@contextmanager
def patched(*what: tuple[Any, str, Any]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for one in what:
            patch.setattr(*one)
        yield


def interrupted(train: Any, keys: Sequence[str], kills: Sequence[int], model: str) -> None:
    """A run that is killed in each of those steps in turn, and then left alone."""
    for number in kills:
        with killed_in_step(number):
            train(model, *keys, out="killed")
    train(model, *keys, out="killed")


@pytest.mark.parametrize(
    ("keys", "kills"),
    [
        ((), [6, 7, 8]),  # at an epoch's end: five steps each, the last of them short
        (EACH_STEP, [4, 9]),
        pytest.param((*EACH_STEP, "train.precision=bf16"), [8], marks=LONG),
        pytest.param((*EACH_STEP, "train.fast_path=off"), [8], marks=LONG),
        ((*EACH_STEP, "train.max_steps=7", "eval.early_stopping_patience=3"), [5, 7]),
        ((*EACH_STEP, "train.dataloader_num_workers=1", "train.hf.dataloader_persistent_workers=true"), [7]),
        (("train.save_strategy=steps", "train.save_steps=3", "train.eval_strategy=no", "train.optim=adafactor"), [8]),
    ],
    ids=["epoch", "steps", "bf16", "plain", "patience", "workers", "adafactor"],
)
def test_a_classifier_is_the_same_to_the_bit(tiny: str, keys: tuple[str, ...], kills: list[int]) -> None:
    classify(tiny, *keys, out="whole")
    interrupted(classify, keys, kills, tiny)
    assert result("killed") == result("whole")
    assert not Path("killed/checkpoints").exists()


@pytest.mark.parametrize(
    "keys",
    [pytest.param(("train.max_steps=10",), marks=LONG), ("train.max_steps=10", "train.precision=bf16", "train.fast_path=off"),
     ("train.max_steps=40", "data.streaming=true", "data.split.validation=0.3")],
    ids=["rows", "bf16", "stream"],
)  # fmt: skip
def test_a_masked_model_is_the_same_to_the_bit(tiny_mlm: str, keys: tuple[str, ...]) -> None:
    saving = ("train.eval_strategy=no", "train.save_strategy=steps", "train.save_steps=2")
    mlm(tiny_mlm, *keys, *saving, out="whole")
    kills = [4, 9] if "train.max_steps=10" in keys else [4, 29, 40]
    interrupted(mlm, (*keys, *saving), kills, tiny_mlm)
    assert result("killed") == result("whole")


def test_fresh_weights_go_on_at_the_rate_that_the_run_chose(tiny_mlm: str, capsys: pytest.CaptureFixture[str]) -> None:
    def train(out: str) -> Any:
        keys = ("model.from_config=bert-tiny", f"model.tokenizer={tiny_mlm}", "train.max_steps=6", "train.save_steps=2")
        more = ("train.eval_strategy=no", "train.save_strategy=steps", *KEYS[2:], "model.max_length=32")
        data = write_lines("c.txt", make_sentences(60))
        return llmkit.train(None, *keys, *more, task="mlm", train=data, output_dir=out)

    train("whole")
    for run in ("killed", "again"):
        with killed_in_step(4):
            train(run)
    assert (
        capsys.readouterr().err.count("bert-tiny: train.learning_rate 0.001, as fresh weights need, not 5e-05; ") == 3
    )
    llmkit.train(resume="killed")
    train("again")
    llmkit.train("whole/recipe.yaml", output_dir="written")
    train("whole")
    assert "whole: this run is finished; nothing was left to do\n" in capsys.readouterr().err
    assert result("killed") == result("again") == result("written") == result("whole")
    assert load_recipe("whole/recipe.yaml").train.learning_rate == 1e-3


@contextmanager
def fault_on_disk(number: int, fault: BaseException, under: str = "checkpoints") -> Iterator[None]:
    """The n-th change on the disk below `under` fails."""
    count = 0

    def before(what: str, path: Path) -> None:
        nonlocal count
        if under in str(path):
            count += 1
            if count == number:
                raise fault

    with patched((durable, "before", before)):
        yield


@LONG
@pytest.mark.parametrize("number", [15, 21, 26])
def test_a_kill_at_a_write_leaves_the_checkpoint_before(tiny: str, number: int) -> None:
    classify(tiny, *EACH_STEP, out="whole")
    with fault_on_disk(number, Killed()), pytest.raises(Killed):
        classify(tiny, *EACH_STEP, out="killed")
    steps = checkpoint.list_checkpoint_steps(Path("killed/checkpoints"))
    assert steps
    assert all(checkpoint.verify_checkpoint(Path(f"killed/checkpoints/checkpoint-{step}")) for step in steps)
    classify(tiny, *EACH_STEP, out="killed")
    assert result("killed") == result("whole")


def test_a_full_disk_is_a_sentence_and_the_run_goes_on_later(tiny: str) -> None:
    with fault_on_disk(20, OSError(28, "No space left on device")), pytest.raises(DiskError) as fault:
        classify(tiny, *EACH_STEP, out="run")
    said = str(fault.value)
    assert said.startswith("run/checkpoints/checkpoint-4: No space left on device (")
    assert said.endswith("MiB); free some space and repeat the same command: it resumes after step 2")
    assert [one.name for one in Path("run/checkpoints").iterdir()] == ["checkpoint-2"]
    assert classify(tiny, *EACH_STEP, out="run").report is not None


def begun(model: str, *keys: str, step: int = 7) -> None:
    """An unfinished run in `run`, killed in that step."""
    with killed_in_step(step):
        classify(model, *EACH_STEP, *keys, out="run")


def damage(step: int) -> None:
    """A bit of that checkpoint's weights turned round."""
    weights = Path(f"run/checkpoints/checkpoint-{step}/weights.safetensors")
    bytes_ = bytearray(weights.read_bytes())
    bytes_[-1] ^= 1
    weights.write_bytes(bytes_)


def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(tiny, *EACH_STEP, out="whole")
    begun(tiny, "train.save_total_limit=3")
    damage(6)
    capsys.readouterr()
    run = classify(tiny, *EACH_STEP, "train.save_total_limit=3", out="run")
    said = capsys.readouterr().err
    where = "run/checkpoints/checkpoint-6"
    assert (
        f"{where}: damaged: weights.safetensors has other bytes than were written; set aside as checkpoint-6.corrupt\n"
        in said
    )
    assert "run: goes on after step 4, the newest checkpoint that is whole\n" in said
    assert result(str(run.path)) == result("whole")


def test_a_damaged_checkpoint_that_is_named_is_refused_and_no_other_is_removed(tiny: str) -> None:
    begun(tiny, "train.save_total_limit=4", step=9)
    about, steps = (
        Path("run/run.json").read_text(encoding="utf-8"),
        checkpoint.list_checkpoint_steps(Path("run/checkpoints")),
    )
    damage(6)
    with pytest.raises(OutputError) as fault:
        llmkit.train(resume="run/checkpoints/checkpoint-6")
    assert str(fault.value) == "run/checkpoints/checkpoint-6: cannot be gone on from; --resume run takes another"
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == [step for step in steps if step != 6]
    assert Path("run/checkpoints/checkpoint-6.corrupt").is_dir()
    assert Path("run/run.json").read_text(encoding="utf-8") == about


def test_checkpoints_that_were_set_aside_stay_until_the_run_is_sealed(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begun(tiny, step=5)
    steps = checkpoint.list_checkpoint_steps(Path("run/checkpoints"))
    for step in steps:
        damage(step)
    capsys.readouterr()
    begun(tiny, step=2)
    said = capsys.readouterr().err
    for step in steps:
        assert f"set aside as checkpoint-{step}.corrupt\n" in said
    assert "run: the run there did not finish; it starts again from its first step\n" in said
    assert {one.name for one in Path("run/checkpoints").iterdir()} == {f"checkpoint-{step}.corrupt" for step in steps}
    classify(tiny, *EACH_STEP, out="run")
    assert not Path("run/checkpoints").exists()


@pytest.mark.parametrize(
    "where", ["tune", pytest.param("save_and_prove", marks=LONG), pytest.param("judge_and_write", marks=LONG)]
)
def test_what_is_killed_after_training_is_not_trained_again(tiny: str, where: str) -> None:
    module = save if where == "save_and_prove" else runs

    def killed(*_: Any, **__: Any) -> None:
        raise Killed

    classify(tiny, out="whole")
    with patched((module, where, killed)), pytest.raises(Killed):
        classify(tiny, out="run")
    with patched((StepTrainer, "training_step", killed)):
        classify(tiny, out="run")
    assert result("run") == result("whole")


def test_a_finished_run_is_said_and_not_touched(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = classify(tiny, "train.max_steps=1", out="run")
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    capsys.readouterr()
    Path("run/checkpoints/checkpoint-1").mkdir(parents=True)  # as a kill leaves it that came after the seal
    again = classify(tiny, "train.max_steps=1", out="run")
    assert not Path("run/checkpoints").exists()
    assert capsys.readouterr().err == "run: this run is finished; nothing was left to do\n"
    assert (again.path, again.scores()) == (first.path, first.scores())
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    write_jsonl("r.jsonl", make_reviews(42))
    with pytest.raises(OutputError) as fault:
        llmkit.train(None, *KEYS, "train.max_steps=1", task="classify", model=tiny, train="r.jsonl", output_dir="run")
    assert (
        str(fault.value)
        == "run: holds a finished run, and r.jsonl has changed since; name another --output-dir, or remove the folder"
    )


def test_another_recipe_is_refused_with_a_table(tiny: str) -> None:
    begun(tiny)
    with pytest.raises(OutputError) as fault:
        classify(tiny, *EACH_STEP, "train.weight_decay=0.5", "train.num_train_epochs=4", out="run")
    assert str(fault.value) == (
        "run: holds an unfinished run that was started with other settings; repeat the command that started it, or name "
        "another --output-dir\n"
        "  key                     then  now\n"
        "  train.num_train_epochs  3.0   4.0\n"
        "  train.weight_decay      0.01  0.5"
    )


def test_an_allowed_change_is_made_and_recorded(tiny: str) -> None:
    begun(tiny)
    keys = ("train.num_train_epochs=4", "train.learning_rate=2e-2")
    with pytest.raises(OutputError) as fault:
        classify(tiny, *EACH_STEP, *keys, out="run")
    assert "or allow it with --allow-change train.learning_rate --allow-change train.num_train_epochs\n" in str(
        fault.value
    )
    classify(tiny, *EACH_STEP, *keys, out="run", allow_change=["train.learning_rate", "train.num_train_epochs"])
    lines = [json.loads(line) for line in Path("run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    rates = {line["step"]: line["learning_rate"] for line in lines if "learning_rate" in line}
    assert max(rates) == 16
    assert rates[8] == pytest.approx(2e-2 * (1 - 5 / 14), abs=1e-3)  # two of sixteen steps warm up
    about = json.loads(Path("run/run.json").read_text(encoding="utf-8"))["resumed"][0]
    assert about["after_step"] == 6
    assert about["changed"] == [["train.learning_rate", 0.01, 0.02], ["train.num_train_epochs", 3.0, 4.0]]


@pytest.mark.parametrize(
    ("key", "end"), [("train.max_steps=3", 3), ("train.num_train_epochs=0.5", 2)], ids=["steps", "epochs"]
)
def test_an_end_before_the_step_that_is_done_is_refused_and_nothing_changes(tiny: str, key: str, end: int) -> None:
    begun(tiny)
    before = {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()}
    name = key.split("=")[0]
    with pytest.raises(OutputError) as fault:
        classify(tiny, *EACH_STEP, key, out="run", allow_change=[name])
    assert str(fault.value) == (
        f"run: {key} ends it at step {end}, and step 6 is done; allow it a later end, or name another --output-dir"
    )
    assert {path: path.read_bytes() for path in Path("run").rglob("*") if path.is_file()} == before
    classify(tiny, *EACH_STEP, out="run")


def test_a_refused_command_that_names_a_checkpoint_keeps_the_later_ones(tiny: str) -> None:
    begun(tiny, "train.save_total_limit=4", step=9)
    steps = checkpoint.list_checkpoint_steps(Path("run/checkpoints"))
    keys = ("train.save_total_limit=4", "train.max_steps=3")
    with pytest.raises(OutputError, match=r"^run: train\.max_steps=3 ends it at step 3, and step 4 is done; "):
        classify(
            tiny, *EACH_STEP, *keys, out="run", resume="run/checkpoints/checkpoint-4", allow_change=["train.max_steps"]
        )
    assert checkpoint.list_checkpoint_steps(Path("run/checkpoints")) == steps == [8, 6, 4, 2]


def test_other_data_and_another_model_are_refused(tiny: str, tiny_classifier: str) -> None:
    begun(tiny)
    before = sorted(Path("run").rglob("*"))
    write_jsonl("r.jsonl", make_reviews(41))
    with pytest.raises(OutputError, match=r"(?s)started with other settings.*data r\.jsonl +[0-9a-f]{12} +[0-9a-f]{12}$"):
        llmkit.train(None, *KEYS, *EACH_STEP, task="classify", model=tiny, train="r.jsonl", output_dir="run")
    assert sorted(Path("run").rglob("*")) == before


def test_resume_alone_is_the_whole_command_and_names_a_checkpoint_too(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    classify(tiny, *EACH_STEP, out="whole")
    begun(tiny, "train.save_total_limit=3", step=9)
    assert {8, 6} <= {*checkpoint.list_checkpoint_steps(Path("run/checkpoints"))}
    run = llmkit.train(resume="run/checkpoints/checkpoint-6")
    assert str(run.path) == "run"
    assert (
        "run: goes on after step 6, the checkpoint that is named; later ones are removed\n" in capsys.readouterr().err
    )
    assert result("run") == result("whole")
