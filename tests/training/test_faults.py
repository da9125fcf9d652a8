"""What goes wrong around a run: refused late, killed early, started twice, or led astray by the environment."""

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
def test_what_the_library_refuses_is_the_recipes_mistake_and_leaves_nothing(
    tiny: str, data: str, keys: tuple[str, ...]
) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(RecipeError) as fault:
        train(tiny, data, *keys, out="deep/run")
    assert str(fault.value).startswith(("train: refused by transformers: ", "train.hf: "))
    assert sorted(Path().rglob("*")) == before


def test_a_launchers_environment_does_not_change_the_recipe(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(tiny, data, out="plain")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    train(tiny, data, out="beside")
    left, right = (load_file(f"{name}/model/model.safetensors") for name in ("plain", "beside"))
    assert all(torch.equal(left[name], right[name]) for name in left)


def test_a_launchers_marks_do_not_make_one_process_wait_for_others(tiny: str, data: str) -> None:
    """In a process of its own: Accelerate looks once."""
    command = [sys.executable, "-m", "llmkit", "finetune-classify", "--train", data, "--model", tiny, *QUICK]
    marks = {"LOCAL_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1", "PMI_SIZE": "", "WORLD_SIZE": "1"}
    done = subprocess.run(command, env=os.environ | marks, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_bf16_is_really_used_where_the_manifest_says_so(tiny: str, data: str) -> None:
    train(tiny, data, "train.precision=bf16", out="coarse")
    train(tiny, data, "train.precision=fp32", out="fine")
    left, right = (load_file(f"{name}/model/model.safetensors") for name in ("coarse", "fine"))
    assert not all(torch.equal(left[name], right[name]) for name in left)


def test_weights_held_in_bf16_are_scored_in_fp32_as_eval_scores_them(tiny: str, data: str) -> None:
    run = train(tiny, data, "model.dtype=bfloat16")
    assert llmkit.evaluate(str(run.path), output_dir="again")["metrics"] == run.report.as_dict()["metrics"]
    rows = [
        [json.loads(line) for line in Path(f"{name}/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("run", "again")
    ]
    assert [row["probabilities"] for row in rows[0]] == [
        pytest.approx(row["probabilities"], abs=1e-6) for row in rows[1]
    ]


def test_a_run_killed_between_its_first_two_files_starts_again(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("llmkit.runs.manifest.write_text_file", killed)
        with pytest.raises(Killed):
            train(tiny, data)
    assert "recipe.yaml" not in {path.name for path in Path("run").iterdir()}
    assert train(tiny, data).path == Path("run")


class Killed(BaseException):
    """As kill -9, but for the test."""


def killed(path: Path, text: str) -> None:
    if path.name == "recipe.yaml":
        raise Killed
    path.write_text(text, encoding="utf-8")


def test_runs_that_start_together_each_get_a_folder(tiny: str, data: str) -> None:
    command = [sys.executable, "-m", "llmkit", "finetune-classify", "--train", data, "--model", tiny, *QUICK]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [process.communicate() for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], ended
    assert sorted(path.name for path in Path("runs").iterdir()) == [f"classify-r-{i}" for i in (1, 2, 3)]


@pytest.mark.parametrize("broken", ["weights", "tokenizer"])
def test_a_model_that_is_not_what_was_trained_is_never_sealed(
    tiny: str, data: str, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = save.models.save_model

    def damage(model: Any, tokenizer: Any, folder: Path, max_length: int) -> None:
        if broken == "weights":
            with torch.no_grad():
                model.classifier.bias += 1e-3
        saved(model, tokenizer, folder, max_length)
        if broken == "tokenizer":
            path = folder / "tokenizer.json"
            path.write_text(
                path.read_text(encoding="utf-8")
                .replace('"lowercase": true', '"lowercase": false')
                .replace('"film"', '"fiml"'),
                encoding="utf-8",
            )

    monkeypatch.setattr("llmkit.models.load.save", damage)
    with pytest.raises(InternalError) as fault:
        train(tiny, data)
    said = {"weights": "reloaded logits differ by 1.0e-03", "tokenizer": "the reloaded tokenizer gives other tokens"}[
        broken
    ]
    assert str(fault.value) == f"run/model: {said}; report this as a bug"
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"] is None


def test_a_disk_that_fills_up_while_the_model_is_written_is_a_sentence(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import SafetensorError

    def full(*_: Any) -> None:
        raise SafetensorError("I/O error: File too large")

    monkeypatch.setattr("llmkit.models.load.save", full)
    with pytest.raises(LlmkitError) as fault:
        train(tiny, data)
    assert (str(fault.value), fault.value.exit_code) == (
        "run/model: I/O error: File too large; free some space and run again",
        74,
    )


@pytest.mark.parametrize(
    ("place", "sentence"),
    [
        ("llmkit.training.trainer.StepTrainer.compute_loss",
         "step 1: a batch of {shape} tokens does not fit into memory; lower train.per_device_train_batch_size or model.max_length"),
        ("llmkit.tasks.classify.Classify.predict",
         "a batch of {shape} tokens does not fit into memory; lower eval.batch_size or model.max_length"),
    ],
)  # fmt: skip
def test_a_batch_that_does_not_fit_is_named_with_the_keys(
    tiny: str, data: str, place: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torch itself says it on a CPU, where it raises no OutOfMemoryError."""
    shapes = []

    def too_large(self: Any, model: Any, batch: dict[str, torch.Tensor]) -> Any:
        shapes.append(" x ".join(map(str, batch["input_ids"].shape)))
        return torch.empty(1 << 50)

    monkeypatch.setattr(place, too_large)
    with pytest.raises(LlmkitError) as fault:
        train(tiny, data, "train.per_device_train_batch_size=8", "train.fast_path=off")
    assert (str(fault.value), fault.value.exit_code) == (sentence.format(shape=shapes[-1]), 71)
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"] is None


def test_room_for_the_weights_is_checked_before_training(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llmkit.training.save.size_of", lambda _: 2**60)
    with pytest.raises(LlmkitError) as fault:
        train(tiny, data)
    assert fault.value.exit_code == 74
    assert not Path("run").exists()


def test_an_interrupted_run_says_how_it_starts_again(
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


def test_baselines_learn_from_the_training_rows_alone(tiny: str, data: str) -> None:
    """Test rows whose labels are turned round: a baseline that had seen them would be right."""
    turned = [row | {"label": {"bad": "good", "good": "bad"}[row["label"]]} for row in make_reviews(40, seed=8)]
    run = llmkit.train(
        None, *QUICK[:3], task="classify", model=tiny, train=data, test=write_jsonl("t.jsonl", turned), output_dir="run"
    )
    assert run.report.baselines["tfidf"]["accuracy"].value < 0.2
    assert set(run.report.baselines) == {"majority", "tfidf"} < set(baselines.BASELINES)


def test_a_recipe_object_stands_alone(tiny: str, data: str) -> None:
    recipe = load_recipe(None, list(QUICK), task="classify", model=tiny, train=data)
    with pytest.raises(UsageError) as fault:
        llmkit.train(recipe, "train.max_steps=4")
    assert str(fault.value) == "a Recipe object and changes to it together; give the changes to load_recipe"
    assert llmkit.train(recipe).path == Path("runs/classify-r-1")


def test_paths_may_be_path_objects(tiny: str, data: str) -> None:
    run = llmkit.train(None, *QUICK, task="classify", model=Path(tiny), train=Path(data), output_dir=Path("run"))
    assert llmkit.predict(run.path, ["a film"])[0]["answer"] in ("bad", "good")
    assert llmkit.evaluate(run.path)["n"] == 6


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"texts": ["x"], "data": "r.jsonl"}, "texts and data together; give one of them"),
        ({}, "nothing to predict; give texts or data"),
        ({"texts": ["x"], "precision": "fp61"}, "precision fp61: unknown; write fp32 or bf16"),
        ({"texts": ["x"], "batch_size": 0}, "batch_size 0: at least 1"),
    ],
)
def test_wrong_words_of_predict_are_refused(finished: Path, words: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as fault:
        llmkit.predict(str(finished), **words)
    assert str(fault.value) == sentence
