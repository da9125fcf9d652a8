"""Tests full runs with --lora: saved files, messages, and use by later commands."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

import llmkit
from llmkit.errors import LlmkitError, MissingInputError, ModelError, RecipeError, UsageError
from llmkit.inference.load_saved import load_saved_model
from llmkit.models.adapters import lora
from llmkit.testing import make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

FAST = ("train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "eval.baselines=[]")


def trained(model: str, *keys: str, **flags: Any) -> Path:
    """Return the folder of a finished run with LoRA adapters."""
    arguments = {"task": "classify", "lora": True, "train": "rows.jsonl", "output_dir": "run", "epochs": 10.0} | flags
    return llmkit.train(None, *FAST, *keys, model=model, **arguments).path


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished classification run, in the folder of its rows."""
    home = tmp_path_factory.mktemp("lora")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write_jsonl("rows.jsonl", make_reviews(60))
        return home / trained(tiny)


def test_lora_run_learns_and_saves_a_plain_peft_folder(run: Path) -> None:
    record = json.loads((run / "metrics.json").read_text())
    assert record["metrics"]["accuracy"]["value"] > 0.8  # random predictions give 0.5
    assert sorted(path.name for path in (run / "model").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base.json", "model_config.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((run / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (16, 32, 0.05)
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
    assert not (run / "checkpoints").exists()


def test_eval_and_predict_load_the_adapter(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    reported = json.loads((run / "metrics.json").read_text())
    reloaded = llmkit.evaluate("run")
    assert reloaded["metrics"]["accuracy"]["value"] == reported["metrics"]["accuracy"]["value"]
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    predictions = llmkit.predict("run", [row["text"] for row in rows])
    assert [one["prediction"] for one in predictions] == [row["prediction"] for row in rows]
    for one, row in zip(predictions, rows, strict=True):
        assert one["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)


def test_manifest_records_the_base_hash(run: Path, tiny: str) -> None:
    base = json.loads((run / "model" / "base.json").read_text())
    record = json.loads((run / "run.json").read_text())
    assert (base["given"], base["path"]) == (tiny, tiny)
    assert base["weights"]["model.safetensors"] == record["model"]["files"]["model.safetensors"]
    assert "model/base.json" in record["outputs"]


def test_recipe_records_the_learning_rate_used(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    run = llmkit.train(None, "train.max_steps=2", "eval.baselines=[]", task="classify", model=tiny, lora=True,
                       train="rows.jsonl", output_dir="run").path  # fmt: skip
    text = (run / "recipe.yaml").read_text()
    assert "learning_rate: 0.001\n" in text
    assert "lora:\n  r: 16\n  lora_alpha: 32\n  lora_dropout: 0.05\n  target_modules: all-linear\n" in text
    messages = capsys.readouterr().err
    assert (
        "lora: r 16 on query, key, value, dense (13 modules, 2 layers); fully trained: classifier; learning rate 0.001\n"
        in messages
    )
    assert "trains 15,426 of 38,914 weights (39.6 %)\n" in messages or "trains " in messages
    assert "the adapter takes 0.1 MiB; its base is " in messages


def test_checkpoints_contain_trained_weights_and_the_best_is_kept(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluated: list[dict[str, Any]] = []
    saved: list[set[str]] = []

    def evaluate(self: StepTrainer, *_: Any, **__: Any) -> dict[str, float]:
        evaluated.append(
            {name: one.detach().clone() for name, one in self.model.named_parameters() if one.requires_grad}
        )
        for file in Path(self.args.output_dir).glob("checkpoint-*/weights.safetensors"):
            saved.append(set(load_file(file)))
        values = {"eval_accuracy": [0.1, 0.9, 0.2, 0.1][len(evaluated) - 1]}
        self.log(dict(values))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    monkeypatch.setattr(StepTrainer, "evaluate", evaluate)
    write_jsonl("rows.jsonl", make_reviews(60))
    run = trained(tiny, epochs=4.0)
    assert saved
    assert all(one == set(evaluated[0]) for one in saved)
    weights = load_file(run / "model" / "adapter_model.safetensors")
    for name, value in evaluated[1].items():
        assert torch.equal(weights[lora.PEFT_PREFIX + name.replace(".default", "")], value)
    assert not torch.equal(evaluated[3]["classifier.weight"], evaluated[1]["classifier.weight"])


def test_only_trained_weights_change(run: Path, tiny: str) -> None:
    model, base = load_saved_model(str(run)).model, load_file(Path(tiny) / "model.safetensors")
    saved = {name.replace(".base_layer", ""): value for name, value in model.named_parameters()}
    for name, value in base.items():
        assert torch.equal(saved.get(f"bert.{name}", saved.get(name)), value), name


@pytest.mark.parametrize("body", ["AutoModel", "AutoModelForMaskedLM"])
def test_merged_adapter_is_a_plain_model_folder(tmp_path: Path, body: str) -> None:
    base = make_tiny_model(tmp_path / "base", auto_class=body)
    write_jsonl("rows.jsonl", make_reviews(60))
    run = trained(base, "lora.merge=true")
    assert "model.safetensors" in {path.name for path in (run / "model").iterdir()}
    assert not (run / "model" / "adapter_config.json").exists()
    plain = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    assert plain.config.id2label == {0: "bad", 1: "good"}
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    with torch.inference_mode():
        probabilities = plain(**tokenizer("a lovely film", return_tensors="pt")).logits.softmax(-1)[0]
    shutil.rmtree(base)
    one = llmkit.predict("run", "a lovely film")[0]
    assert list(one["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_regression_predicts_in_the_users_units(tmp_path: Path) -> None:
    """Also with ModernBERT and r=1, whose LoRA matrices have as many rows as the head has outputs."""
    base = make_tiny_model(tmp_path / "base", "modernbert", auto_class="AutoModelForMaskedLM")
    write_jsonl("rows.jsonl", [
        {"text": row["text"], "label": 1000.0 + (30 if row["label"] == "good" else 0)} for row in make_reviews(80)
    ])  # fmt: skip
    run = trained(base, "classify.kind=regression", "lora.r=1", "train.learning_rate=1e-2", epochs=8.0)
    predictions = [one["prediction"] for one in llmkit.predict("run", data="rows.jsonl")]
    assert 1000 < np.mean(predictions) < 1030
    assert np.std(predictions) > 5
    with_peft = lora.load_with_peft(run / "model", "AutoModelForSequenceClassification", "float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    with torch.inference_mode():
        value = with_peft(**tokenizer(make_reviews(1)[0]["text"], return_tensors="pt")).logits.item()
    assert value == pytest.approx(predictions[0], rel=1e-5)


def test_head_is_rescaled_for_another_regression_target(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    write_jsonl("rows.jsonl", [{"text": row["text"], "label": 500 + len(row["text"])} for row in make_reviews(60)])
    first = llmkit.train(None, *FAST, "classify.kind=regression", task="classify", model=base, train="rows.jsonl",
                         output_dir="first").path  # fmt: skip
    run = trained(str(first), "classify.kind=regression", epochs=1.0)
    assert {"classifier"} == set(json.loads((run / "model/adapter_config.json").read_text())["modules_to_save"])
    assert 400 < float(llmkit.predict("run", "a lovely film")[0]["prediction"]) < 700


def test_adapter_folder_contains_the_thresholds(tiny: str) -> None:
    rows = [{"text": row["text"], "label": [row["label"], *(["long"] if len(row["text"]) > 40 else [])]}
            for row in make_reviews(60)]  # fmt: skip
    write_jsonl("rows.jsonl", rows)
    run = trained(tiny, "classify.kind=multi", "classify.thresholds=each")
    config = AutoConfig.from_pretrained(run / "model" / "model_config.json")
    assert config.problem_type == "multi_label_classification"
    assert len(config.thresholds) == 3
    predictions = llmkit.predict("run", data="rows.jsonl")
    for one in predictions:
        over = {name for (name, p), t in zip(one["probabilities"].items(), config.thresholds, strict=True) if p >= t}
        assert set(one["prediction"]) == over


@pytest.mark.parametrize("body", ["AutoModel", "AutoModelForMaskedLM"])
def test_masked_language_models_can_use_lora(tmp_path: Path, body: str) -> None:
    texts = make_sentences()
    base = make_tiny_model(tmp_path / "base", auto_class=body, texts=texts)
    write_lines("corpus.txt", texts)
    run = trained(base, "train.learning_rate=5e-3", task="mlm", train="corpus.txt", epochs=2.0)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert llmkit.evaluate("run")["metrics"]["loss"]["value"] == metrics["loss"]["value"]
    saved = load_file(run / "model" / "adapter_model.safetensors")
    vocab_size = AutoConfig.from_pretrained(base).vocab_size
    assert not any(value.shape == (vocab_size, 32) for value in saved.values())
    head_weights = {name for name in saved if "cls." in name and ".lora_" not in name}
    assert bool(head_weights) == (body == "AutoModel")


def test_next_fine_tuning_merges_the_adapter_and_prints_it(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40, labels=("no", "yes")))
    reloaded = trained(str(run), lora=None, epochs=1.0)
    assert f"the adapter of {run} is merged into its base\n" in capsys.readouterr().err
    assert (reloaded / "model" / "model.safetensors").is_file()
    record = json.loads((reloaded / "run.json").read_text())["model"]
    assert set(record["base"]["weights"]) == {"model.safetensors"}
    with pytest.raises(RecipeError) as caught:
        trained(str(run), output_dir="third")
    assert str(caught.value) == (
        f"lora: {run} is already an adapter, which cannot be the base of another adapter; leave lora out (it is merged "
        "into its base), or train it again with lora.merge=true"
    )
    assert not Path("third").exists()


def test_run_folder_can_be_a_lora_base(finished: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(finished, tmp_path / "base"))
    write_jsonl("rows.jsonl", make_reviews(40, labels=("no", "maybe", "yes")))
    run = trained(str(base), epochs=1.0)
    assert json.loads((run / "model/base.json").read_text())["path"] == str(base / "model")
    assert llmkit.predict("run", "a film")[0]["prediction"] in ("no", "maybe", "yes")
    shutil.move(base, tmp_path / "moved")
    with pytest.raises(MissingInputError) as caught:
        llmkit.predict("run", "a film")
    assert str(caught.value) == (
        f"run: an adapter, and its base {base} is missing (it was at {base / 'model'}); restore it, or pass its folder with "
        "--base FOLDER of eval and predict"
    )
    assert llmkit.predict("run", "a film", base=str(tmp_path / "moved"))[0]["prediction"] in ("no", "maybe", "yes")


@pytest.fixture
def get_error() -> Callable[..., str]:
    """Return a function that returns the message of the exception that `work` raises."""

    def get_message(work: Callable[[], object], error_type: type[LlmkitError]) -> str:
        with pytest.raises(error_type) as caught:
            work()
        return str(caught.value)

    return get_message


def test_invalid_lora_settings_are_rejected_before_any_file_is_written(
    tiny: str, run: Path, get_error: Callable[..., str]
) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    assert get_error(lambda: trained(tiny, "lora.quantize=4bit"), RecipeError).startswith("lora.quantize: 4bit needs ")
    assert get_error(lambda: trained(tiny, "lora.target_modules=[nothing]"), RecipeError) == (
        "lora.target_modules: no layer 'nothing' to adapt; known: query, key, value, dense"
    )
    assert get_error(lambda: llmkit.predict(tiny, "a film", base="x"), UsageError) == (
        f"--base x: {tiny} is a full model, which has no base model; leave it out"
    )
    other = make_tiny_model("other", seed=9)
    assert get_error(lambda: llmkit.predict(str(run), "a film", base=other), ModelError) == (
        f"{run}: other is not the base that it was trained on: model.safetensors differs; "
        "restore it, or pass its folder with --base FOLDER of eval and predict"
    )
    assert not Path("run").exists()
