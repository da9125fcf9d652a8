"""Tests a full run in this process: its files, its errors, and that the saved model is the scored one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import llmkit
from llmkit.errors import DataError, InternalError, LlmkitError, OutputError, RecipeError, UsageError
from llmkit.metrics.classification.single_label import score_classification
from llmkit.models.device import choose_precision, get_device
from llmkit.runs.launch_env import WORLD_SIZE_VARIABLES
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl
from llmkit.training import trainer

pytestmark = pytest.mark.slow

FAST = ("train.learning_rate=6e-3", "train.per_device_train_batch_size=8")


@pytest.fixture
def data() -> str:
    return write_jsonl("reviews.jsonl", make_reviews(60))


def train(model: str, data: str, *more: str, out: str = "run") -> Any:
    return llmkit.train(None, *FAST, *more, task="classify", model=model, train=data, output_dir=out)


def read_events(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_run_folder_contains_the_documented_files_and_no_pickle(finished: Path) -> None:
    names = {path.name for path in finished.iterdir()}
    assert names == {"recipe.yaml", "run.json", "model", "metrics.json", "predictions.jsonl", "log.jsonl"}
    assert {path.name for path in (finished / "model").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    manifest = json.loads((finished / "run.json").read_text(encoding="utf-8"))
    assert manifest["sealed"]
    assert manifest["rows"] == {"train": 48, "validation": 6, "test": 6}
    assert [one["name"] for one in manifest["data"]] == ["reviews.jsonl"]
    assert set(manifest["outputs"]) == {
        path.relative_to(finished).as_posix()
        for path in finished.rglob("*")
        if path.is_file() and path.name != "run.json"
    }
    assert manifest["precision"] == {"train": "fp32", "eval": "fp32"}


def test_tiny_model_learns(finished: Path) -> None:
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["metrics"]["accuracy"]["value"] == 1.0
    assert metrics["baselines"]["majority"]["accuracy"]["value"] == 0.5
    assert metrics["labels"] == ["bad", "good"]
    assert metrics["split"] == "test"


def test_scores_computed_from_predictions_equal_those_in_metrics(finished: Path) -> None:
    rows = read_events(finished / "predictions.jsonl")
    metrics = json.loads((finished / "metrics.json").read_text(encoding="utf-8"))
    repeated = score_classification(
        list(metrics["metrics"]), [r["reference"] for r in rows], [r["prediction"] for r in rows], metrics["labels"]
    )
    assert {name: score.as_dict() for name, score in repeated.items()} == metrics["metrics"]
    assert metrics["n"] == len(rows)
    for row in rows:
        assert row["prediction"] == max(row["probabilities"], key=row["probabilities"].get)
        assert sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-6)
        assert row["label"] == row["reference"]


def test_plain_transformers_gives_the_scored_predictions(finished: Path) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(finished / "model")
    tokenizer = AutoTokenizer.from_pretrained(finished / "model")
    rows = read_events(finished / "predictions.jsonl")
    assert model.config.id2label == {0: "bad", 1: "good"}
    assert model.config.label2id == {"bad": 0, "good": 1}
    assert tokenizer.model_max_length == 128
    batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**batch).logits.softmax(-1)
    for row, values in zip(rows, probabilities.tolist(), strict=True):
        assert [row["probabilities"]["bad"], row["probabilities"]["good"]] == pytest.approx(values, abs=1e-5)


def test_resolved_recipe_repeats_the_run(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(finished.parent)
    repeated = llmkit.train(finished / "recipe.yaml", output_dir=str(tmp_path / "again"))
    assert (repeated.path / "predictions.jsonl").read_bytes() == (finished / "predictions.jsonl").read_bytes()
    assert (repeated.path / "model/model.safetensors").read_bytes() == (
        finished / "model/model.safetensors"
    ).read_bytes()


def test_best_checkpoint_is_kept(tiny: str, data: str) -> None:
    run = train(tiny, data, "train.num_train_epochs=5", "train.learning_rate=2e-2", "data.split.test=0")
    scores = [event["eval_accuracy"] for event in read_events(run.path / "log.jsonl") if "eval_accuracy" in event]
    assert len(scores) == 5
    assert run.report.split == "validation"
    assert run.report.metrics["accuracy"].value == max(scores)


def test_early_stopping_ends_a_run_without_improvement(tiny: str, data: str) -> None:
    run = train(tiny, data, "train.num_train_epochs=30", "train.learning_rate=1e-9", "eval.early_stopping_patience=2")
    assert len([e for e in read_events(run.path / "log.jsonl") if "eval_accuracy" in e]) == 3
    assert not (run.path / "checkpoints").exists()


@pytest.mark.parametrize("keys", [("train.eval_strategy=no",), ("train.save_strategy=no",), ("train.save_strategy=best",),
                                  ("train.eval_strategy=steps", "train.eval_steps=2", "train.save_strategy=steps", "train.save_steps=2")])  # fmt: skip
def test_every_save_and_eval_strategy_ends_in_a_sealed_run(tiny: str, data: str, keys: tuple[str, ...]) -> None:
    run = train(tiny, data, "train.num_train_epochs=1", *keys)
    assert json.loads((run.path / "run.json").read_text(encoding="utf-8"))["sealed"]


def test_run_without_validation_and_test_rows_saves_a_model(
    tiny: str, data: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny, data, "train.num_train_epochs=1", "data.split.validation=0", "data.split.test=0")
    assert run.report is None
    assert not (run.path / "metrics.json").exists()
    messages = capsys.readouterr().err
    assert "no validation rows: the last weights are kept\n" in messages
    assert "neither test nor validation rows: nothing was scored\n" in messages


def test_given_splits_are_used_with_their_column_names(tiny: str, data: str) -> None:
    write_jsonl("test.jsonl", make_reviews(20, seed=9)[::-1])
    run = llmkit.train(
        None, *FAST, task="classify", model=tiny, train=data, validation="test.jsonl", test="test.jsonl", epochs=10.0,
        output_dir="run",
    )  # fmt: skip
    assert json.loads((run.path / "run.json").read_text(encoding="utf-8"))["rows"] == {
        "train": 60,
        "validation": 20,
        "test": 20,
    }
    assert run.report.metrics["accuracy"].value > 0.9


def test_resolved_recipe_has_precision_columns_and_threads(finished: Path) -> None:
    text = (finished / "recipe.yaml").read_text(encoding="utf-8")
    assert text.startswith("# llmkit train ")
    precision, reason = choose_precision("auto", 32, get_device())  # the reason depends on the CPU
    assert f"# precision: {precision} ({reason}), scores in fp32; " in text
    assert f"; {torch.get_num_threads()} threads" in text
    assert "  precision: fp32\n" in text
    assert "  columns:\n    text: text\n    label: label\n" in text
    assert "output_dir" not in text


@pytest.mark.parametrize("precision", ["bf16"])
def test_validation_of_bf16_training_is_scored_in_fp32(tiny: str, data: str, precision: str) -> None:
    """The last evaluation of a bf16 run equals the fp32 score of its saved weights."""
    run = train(tiny, data, "train.precision=bf16", "train.num_train_epochs=1", "data.split.test=0")
    logged = [e for e in read_events(run.path / "log.jsonl") if "eval_accuracy" in e][-1]
    assert run.report.metrics["accuracy"].value == logged["eval_accuracy"]
    assert json.loads((run.path / "run.json").read_text(encoding="utf-8"))["precision"] == {
        "train": "bf16",
        "eval": "fp32",
    }


def test_disable_autocast_removes_and_restores_it(tiny: str) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(tiny)
    wrapped = torch.autocast("cpu", torch.bfloat16)(model.forward)
    model.forward = wrapped
    with trainer.disable_autocast(model):
        assert model.forward.__func__ is type(model).forward
    assert model.forward is wrapped


def check_error(error_type: type[LlmkitError], message: str, command: Callable[[], Any]) -> None:
    before = sorted(Path().rglob("*"))
    with pytest.raises(error_type) as caught:
        command()
    assert str(caught.value) == message
    assert sorted(Path().rglob("*")) == before


def test_rejected_run_leaves_no_files(tiny: str, data: str) -> None:
    check_error(
        DataError,
        "reviews.jsonl: no column 'sentence'; columns: text, label; map it with data.columns.text=COLUMN or --text COLUMN",
        lambda: train(tiny, data, "data.columns.text=sentence", out="runs/deep/x"),
    )
    check_error(
        LlmkitError,
        f"{tiny}: model.max_length 4,000 exceeds its 130 positions; set model.max_length=130",
        lambda: train(tiny, data, "model.max_length=4000", out="runs/deep/x"),
    )
    check_error(
        RecipeError,
        "data.train: missing; name the training rows with --train FILE",
        lambda: llmkit.train(task="classify", model=tiny),
    )
    check_error(
        DataError,
        "classify.class_weights: no class 'god' in the training rows; did you mean 'good'?",
        lambda: train(tiny, data, "classify.class_weights={god: 2.0}"),
    )


def test_finished_run_is_never_overwritten(tiny: str, data: str) -> None:
    train(tiny, data, "train.max_steps=1", "train.eval_strategy=no", out="runs/x")
    check_error(
        OutputError,
        "runs/x: holds a finished run; name another --output-dir, or remove the folder",
        lambda: train(tiny, data, "train.max_steps=2", "train.eval_strategy=no", out="runs/x"),
    )


def test_unfinished_run_starts_again_and_another_is_rejected(
    tiny: str, data: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ("train.max_steps=2", "train.eval_strategy=no")
    with monkeypatch.context() as patch:
        patch.setattr("llmkit.training.fit.fit", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            train(tiny, data, *keys)
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"] is None
    check_error(
        OutputError,
        "run: holds an unfinished run that was started with other settings; repeat the command that started it, or name "
        "another --output-dir\n"
        "  key         then  now\n"
        "  train.seed  42    7",
        lambda: train(tiny, data, *keys, "train.seed=7"),
    )
    train(tiny, data, *keys)
    assert "run: the run there did not finish; it starts again from its first step\n" in capsys.readouterr().err
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"]
    assert not Path("run/.lock").exists()


def test_nan_loss_stops_the_run_before_weights_are_saved(tiny: str, data: str) -> None:
    with pytest.raises(InternalError) as caught:
        train(
            tiny, data, "train.learning_rate=1e30", "train.warmup_steps=0", "train.max_grad_norm=0", "train.optim=sgd"
        )
    message = str(caught.value)
    assert message.startswith("step 2: the ")
    assert " is nan (learning rate " in message or " is inf (learning rate " in message
    assert "rows reviews.jsonl:" in message
    assert message.endswith("; lower train.learning_rate, or train in fp32 with train.precision=fp32")
    assert not list(Path("run").rglob("*.safetensors"))


@pytest.mark.parametrize("name", WORLD_SIZE_VARIABLES)
def test_unknown_launcher_is_rejected(tiny: str, data: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "2")
    missing = " without RANK, LOCAL_RANK, MASTER_ADDR, MASTER_PORT" if name == "WORLD_SIZE" else ""
    check_error(
        UsageError,
        f"started as several processes ({name}=2){missing}; "
        f"start it with --processes, torchrun or srun, or unset {name}",
        lambda: train(tiny, data),
    )


def test_fine_tuned_model_can_be_trained_further(finished: Path, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    train(str(finished), data, "train.max_steps=1", "train.eval_strategy=no")
    assert "newly initialized" not in capsys.readouterr().err
    three = write_jsonl(
        "three.jsonl", [row | {"label": row["label"] if i % 3 else "so-so"} for i, row in enumerate(make_reviews(60))]
    )
    train(str(finished), three, "train.max_steps=1", "train.eval_strategy=no", out="three")
    assert "; newly initialized: classifier\n" in capsys.readouterr().err


@pytest.mark.parametrize("label", ["bad", 1.5])
def test_calibration_of_another_problem_type_is_not_inherited(label: Any) -> None:
    names = {"id2label": {0: "war", 1: "peace"}, "label2id": {"war": 0, "peace": 1}, "thresholds": [0.25, 0.75]}
    problem_type = "multi_label_classification"
    model = make_tiny_model(
        "multi", auto_class="AutoModelForSequenceClassification", problem_type=problem_type, **names
    )
    rows = [
        {"text": row["text"], "label": row["label"] if label == "bad" else label + i}
        for i, row in enumerate(make_reviews(60))
    ]
    keys = (
        "train.max_steps=1",
        "train.eval_strategy=no",
        f"classify.kind={'single' if label == 'bad' else 'regression'}",
    )
    run = train(model, write_jsonl("rows.jsonl", rows), *keys)
    assert "thresholds" not in json.loads((run.path / "model/config.json").read_text(encoding="utf-8"))
    assert llmkit.predict(run.path, ["a film"])


def test_share_of_truncated_texts_is_printed(tiny: str, data: str, capsys: pytest.CaptureFixture[str]) -> None:
    train(tiny, data, "model.max_length=8", "train.max_steps=1", "train.eval_strategy=no")
    messages = capsys.readouterr().err
    truncated = sum(len(AutoTokenizer.from_pretrained(tiny)(row["text"])["input_ids"]) > 8 for row in make_reviews(60))
    assert f"max_length 8 truncates {truncated} of 60 texts ({truncated / 60:.1%})\n" in messages


def test_default_max_length_is_reduced_to_the_model_and_printed(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    small = make_tiny_model("small", max_position_embeddings=32)
    train(small, data, "train.max_steps=1", "train.eval_strategy=no")
    assert "max_length: 32, the maximum of the model\n" in capsys.readouterr().err
    assert AutoTokenizer.from_pretrained("run/model").model_max_length == 32


def test_no_access_token_reaches_the_run_folder(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_SecretSecretSecret")
    monkeypatch.setattr("sys.argv", ["llmkit", "--token=hf_SecretSecretSecret"])
    train(tiny, data, "train.max_steps=1", "train.eval_strategy=no", "train.hf.run_name=https://me:SecretSecret@host/x")
    assert not [path for path in Path("run").rglob("*") if path.is_file() and b"SecretSecret" in path.read_bytes()]


def test_full_disk_is_a_disk_error(tiny: str, data: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail_to_sync(what: str, path: Path) -> None:
        if what == "sync" and "checkpoints" in path.parts:
            raise OSError(28, os.strerror(28))

    monkeypatch.setattr("llmkit.runs.durable.before_disk_change", fail_to_sync)
    with pytest.raises(LlmkitError) as caught:
        train(tiny, data)
    messages = str(caught.value)
    assert messages.startswith("run/checkpoints/checkpoint-6: No space left on device (")
    assert messages.endswith(" MiB free); free some space and repeat the same command: it starts again")
    assert caught.value.exit_code == 74
    assert not list(Path("run/checkpoints").iterdir())


LABELS = ["naïve", "a=b", "c/d", "<b>x</b>", "../up", 'call "hi", ok', "two\nlines", "喜欢", "مرحبا", "🙂"]


def test_unusual_labels_are_returned_unchanged(tiny: str) -> None:
    rows = [{"text": f"text {i} {'great' if i % 2 else 'dull'}", "label": LABELS[i % len(LABELS)]} for i in range(60)]
    run = train(
        tiny, write_jsonl("odd.jsonl", rows), "train.max_steps=2", "train.eval_strategy=no", "eval.baselines=[majority]"
    )
    metrics = json.loads((run.path / "metrics.json").read_text(encoding="utf-8"))
    assert metrics["labels"] == sorted(LABELS)
    assert {row["reference"] for row in read_events(run.path / "predictions.jsonl")} <= set(LABELS)
    repeated = AutoModelForSequenceClassification.from_pretrained(run.path / "model")
    assert list(repeated.config.id2label.values()) == sorted(LABELS)
