"""Tests failures around a run: late errors, early kills, concurrent starts and misleading environment variables."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import llmkit
from llmkit.errors import InternalError, LlmkitError, RecipeError, UsageError
from llmkit.evaluation import baselines
from llmkit.recipe.load import load_recipe
from llmkit.testing import make_reviews, write_jsonl
from llmkit.training import save
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

QUICK = ("train.max_steps=2", "train.eval_strategy=no", "train.save_strategy=no", "eval.baselines=[]")


@pytest.fixture
def data() -> str:
    return write_jsonl("r.jsonl", make_reviews(60))


def train(model: str, data: str, *keys: str, out: str | None = "run") -> Any:
    return llmkit.train(None, *QUICK, *keys, task="classify", model=model, train=data, output_dir=out)


@pytest.mark.parametrize(
    "keys",
    [
        ("train.hf.debug=foo",),
        ("train.hf.log_level=foo",),
        ("train.hf.lr_scheduler_kwargs={nope: 1}",),
        ("train.hf.optim_args=nope",),
        ("train.hf.neftune_noise_alpha=abc",),
        ("train.lr_scheduler_type=polynomial", "train.learning_rate=1e-8"),
    ],
    ids=lambda keys: keys[0],
)
def test_library_errors_are_recipe_errors_and_leave_no_files(tiny: str, data: str, keys: tuple[str, ...]) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(RecipeError) as caught:
        train(tiny, data, *keys, out="deep/run")
    assert str(caught.value).startswith(("train: rejected by transformers: ", "train.hf: "))
    assert sorted(Path().rglob("*")) == before


def test_launcher_environment_does_not_change_the_recipe(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny, data, out="plain")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    train(tiny, data, out="beside")
    left, right = (load_file(f"{name}/model/model.safetensors") for name in ("plain", "beside"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_launcher_variables_do_not_make_one_process_wait(tiny: str, data: str) -> None:
    """Runs in a subprocess, because Accelerate reads the environment once."""
    command = [sys.executable, "-m", "llmkit", "finetune-classify", "--train", data, "--model", tiny, *QUICK]
    variables = {"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "", "WORLD_SIZE": "1"}
    done = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bf16_is_used_if_recorded_in_the_manifest(tiny: str, data: str) -> None:
    train(tiny, data, "train.precision=bf16", out="coarse")
    train(tiny, data, "train.precision=fp32", out="fine")
    left, right = (load_file(f"{name}/model/model.safetensors") for name in ("coarse", "fine"))
    assert not all(torch.equal(left[name], right[name]) for name in left)


def test_bf16_weights_are_scored_in_fp32_as_by_eval(tiny: str, data: str) -> None:
    run = train(tiny, data, "model.dtype=bfloat16")
    assert llmkit.evaluate(str(run.path), output_dir="again")["metrics"] == run.report.as_dict()["metrics"]
    rows = [
        [json.loads(line) for line in Path(f"{name}/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("run", "again")
    ]
    assert [row["probabilities"] for row in rows[0]] == [
        pytest.approx(row["probabilities"], abs=1e-6) for row in rows[1]
    ]


def test_run_killed_between_its_first_two_files_starts_again(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("llmkit.runs.manifest.write_text_file", kill_at_recipe)
        with pytest.raises(Killed):
            train(tiny, data)
    assert "recipe.yaml" not in {path.name for path in Path("run").iterdir()}
    assert train(tiny, data).path == Path("run")


class Killed(BaseException):
    """Simulates kill -9 within the test process."""


def kill_at_recipe(path: Path, text: str) -> None:
    if path.name == "recipe.yaml":
        raise Killed
    path.write_text(text, encoding="utf-8")


def test_concurrent_runs_get_separate_folders(tiny: str, data: str) -> None:
    command = [sys.executable, "-m", "llmkit", "finetune-classify", "--train", data, "--model", tiny, *QUICK]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert sorted(path.name for path in Path("runs").iterdir()) == [f"classify-r-{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("damaged", ["weights", "tokenizer"])
def test_model_that_differs_after_reload_is_not_sealed(
    tiny: str, data: str, damaged: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model = save.models.save_model

    def damage(model: Any, tokenizer: Any, folder: Path, max_length: int) -> None:
        if damaged == "weights":
            with torch.no_grad():
                model.classifier.bias += 1e-3
        save_model(model, tokenizer, folder, max_length)
        if damaged == "tokenizer":
            path = folder / "tokenizer.json"
            path.write_text(
                path.read_text(encoding="utf-8")
                .replace('"lowercase": true', '"lowercase": false')
                .replace('"film"', '"fiml"'),
                encoding="utf-8",
            )

    monkeypatch.setattr("llmkit.models.load.save_model", damage)
    with pytest.raises(InternalError) as caught:
        train(tiny, data)
    message = {
        "weights": "reloaded logits differ by 1.0e-03",
        "tokenizer": "the reloaded tokenizer produces other tokens",
    }[damaged]
    assert str(caught.value) == f"run/model: {message}; report this as a bug"
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"] is None


def test_full_disk_while_saving_the_model_is_a_disk_error(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def fail_to_write(*_: Any) -> None:
        raise SafetensorError("I/O error: File too large")

    monkeypatch.setattr("llmkit.models.load.save_model", fail_to_write)
    with pytest.raises(LlmkitError) as caught:
        train(tiny, data)
    assert (str(caught.value), caught.value.exit_code) == (
        "run/model: I/O error: File too large; free some space and run again",
        74,
    )


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("llmkit.training.trainer.StepTrainer.compute_loss",
         "step 1: a batch of {shape} tokens does not fit into memory; lower train.max_tokens_per_pass or model.max_length"),
        ("llmkit.tasks.classify.Classify.predict",
         "a batch of {shape} tokens does not fit into memory; lower eval.batch_size or model.max_length"),
    ],
)  # fmt: skip
def test_out_of_memory_error_names_batch_and_keys(
    tiny: str, data: str, target: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Simulates the RuntimeError that torch raises on a CPU instead of OutOfMemoryError."""
    shapes = []

    def too_large(self: Any, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        shapes.append(" x ".join(map(str, batch["input_ids"].shape)))
        return torch.empty(1 << 50)

    monkeypatch.setattr(target, too_large)
    with pytest.raises(LlmkitError) as caught:
        train(tiny, data, "train.per_device_train_batch_size=8", "train.fast_path=off")
    assert (str(caught.value), caught.value.exit_code) == (message.format(shape=shapes[-1]), 71)
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"] is None


def test_disk_space_is_checked_before_training(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.save.sum_weight_bytes", lambda _: 2**60)
    with pytest.raises(LlmkitError) as caught:
        train(tiny, data)
    assert caught.value.exit_code == 74
    assert not Path("run").exists()


def test_interrupted_run_prints_how_to_resume(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(StepTrainer, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, data, out=None)
    path = "runs/classify-r-1"
    how = f"`llmkit train --resume {path}` starts it again"
    assert f"{path}: unfinished, no checkpoint yet; {how}\n" in capsys.readouterr().err
    assert not Path(path, "checkpoints").exists()


def test_baselines_learn_from_training_rows_only(tiny: str, data: str) -> None:
    """The labels of the test rows are inverted: a baseline that had seen them would be right."""
    inverted = [row | {"label": {"bad": "good", "good": "bad"}[row["label"]]} for row in make_reviews(40, seed=8)]
    run = llmkit.train(
        None,
        *QUICK[:3],
        task="classify",
        model=tiny,
        train=data,
        test=write_jsonl("t.jsonl", inverted),
        output_dir="run",
    )
    assert run.report.baselines["tfidf"]["accuracy"].value < 0.2
    assert set(run.report.baselines) == {"majority", "tfidf"} < set(baselines.BASELINES)


def test_recipe_object_takes_no_overrides(tiny: str, data: str) -> None:
    recipe = load_recipe(None, list(QUICK), task="classify", model=tiny, train=data)
    with pytest.raises(UsageError) as caught:
        llmkit.train(recipe, "train.max_steps=4")
    assert str(caught.value) == "a Recipe object cannot be combined with overrides; pass the overrides to load_recipe"
    assert llmkit.train(recipe).path == Path("runs/classify-r-1")


def test_paths_may_be_path_objects(tiny: str, data: str) -> None:
    run = llmkit.train(None, *QUICK, task="classify", model=Path(tiny), train=Path(data), output_dir=Path("run"))
    assert llmkit.predict(run.path, ["a film"])[0]["prediction"] in ("bad", "good")
    assert llmkit.evaluate(run.path)["n"] == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"texts": ["x"], "data": "r.jsonl"}, "texts and data together; give one of them"),
        ({}, "nothing to predict; give texts or data"),
        ({"texts": ["x"], "precision": "fp61"}, "precision fp61: unknown; write fp32 or bf16"),
        ({"texts": ["x"], "batch_size": 0}, "batch_size 0: at least 1"),
    ],
)
def test_invalid_arguments_of_predict_are_rejected(finished: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        llmkit.predict(str(finished), **arguments)
    assert str(caught.value) == message
