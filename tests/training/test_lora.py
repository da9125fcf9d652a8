"""Whole runs with --lora: what is kept, what is said, and what every later command makes of it."""

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

FAST = ("train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "eval.baselines=[]")


def trained(model: str, *keys: str, **words: Any) -> Path:
    """The folder of a finished run with small matrices."""
    given = {"task": "classify", "lora": True, "train": "rows.jsonl", "output_dir": "run", "epochs": 10.0} | words
    return llmkit.train(None, *FAST, *keys, model=model, **given).path


@pytest.fixture(scope="module")
def run(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of classify beside its rows."""
    home = tmp_path_factory.mktemp("lora")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        write_jsonl("rows.jsonl", make_reviews(60))
        return home / trained(tiny)


def test_it_learns_and_leaves_a_plain_peft_folder(run: Path) -> None:
    about = json.loads((run / "metrics.json").read_text())
    assert about["metrics"]["accuracy"]["value"] > 0.8  # half of them by chance
    assert sorted(path.name for path in (run / "model").iterdir()) == [
        "adapter_config.json", "adapter_model.safetensors", "base.json", "model_config.json", "tokenizer.json",
        "tokenizer_config.json",
    ]  # fmt: skip
    config = json.loads((run / "model" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (16, 32, 0.05)
    assert (config["task_type"], config["modules_to_save"]) == ("SEQ_CLS", ["classifier"])
    assert not (run / "checkpoints").exists()


def test_eval_and_predict_open_it(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(run.parent)
    kept = json.loads((run / "metrics.json").read_text())
    again = llmkit.evaluate("run")
    assert again["metrics"]["accuracy"]["value"] == kept["metrics"]["accuracy"]["value"]
    rows = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    said = llmkit.predict("run", [row["text"] for row in rows])
    assert [one["answer"] for one in said] == [row["answer"] for row in rows]
    for one, row in zip(said, rows, strict=True):
        assert one["probabilities"] == pytest.approx(row["probabilities"], abs=1e-5)


def test_its_base_is_in_the_manifest_by_hash(run: Path, tiny: str) -> None:
    base = json.loads((run / "model" / "base.json").read_text())
    about = json.loads((run / "run.json").read_text())
    assert (base["given"], base["path"]) == (tiny, tiny)
    assert base["weights"]["model.safetensors"] == about["model"]["files"]["model.safetensors"]
    assert "model/base.json" in about["outputs"]


def test_the_recipe_names_the_rate_that_was_used(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    run = llmkit.train(None, "train.max_steps=2", "eval.baselines=[]", task="classify", model=tiny, lora=True,
                       train="rows.jsonl", output_dir="run").path  # fmt: skip
    text = (run / "recipe.yaml").read_text()
    assert "learning_rate: 0.001\n" in text
    assert "lora:\n  r: 16\n  alpha: 32\n  dropout: 0.05\n  targets: all-linear\n" in text
    said = capsys.readouterr().err
    assert (
        "lora: r 16 on query, key, value, dense (13 modules, 2 layers); fully trained: classifier; learning rate 0.001\n"
        in said
    )
    assert "trains 15,426 of 38,914 weights (39.6 %)\n" in said or "trains " in said
    assert "the adapter takes 0.1 MiB; its base is " in said


def test_checkpoints_hold_what_is_trained_and_the_best_is_kept(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []
    held: list[set[str]] = []

    def evaluate(self: StepTrainer, *_: Any, **__: Any) -> dict[str, float]:
        seen.append({name: one.detach().clone() for name, one in self.model.named_parameters() if one.requires_grad})
        for file in Path(self.args.output_dir).glob("checkpoint-*/weights.safetensors"):
            held.append(set(load_file(file)))
        values = {"eval_accuracy": [0.1, 0.9, 0.2, 0.1][len(seen) - 1]}
        self.log(dict(values))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    monkeypatch.setattr(StepTrainer, "evaluate", evaluate)
    write_jsonl("rows.jsonl", make_reviews(60))
    run = trained(tiny, epochs=4.0)
    assert held
    assert all(one == set(seen[0]) for one in held)
    weights = load_file(run / "model" / "adapter_model.safetensors")
    for name, value in seen[1].items():
        assert torch.equal(weights[lora.PEFT_PREFIX + name.replace(".default", "")], value)
    assert not torch.equal(seen[3]["classifier.weight"], seen[1]["classifier.weight"])


def test_only_what_is_trained_moves(run: Path, tiny: str) -> None:
    model, base = load_saved_model(str(run)).model, load_file(Path(tiny) / "model.safetensors")
    held = {name.replace(".base_layer", ""): value for name, value in model.named_parameters()}
    for name, value in base.items():
        assert torch.equal(held.get(f"bert.{name}", held.get(name)), value), name


@pytest.mark.parametrize("body", ["AutoModel", "AutoModelForMaskedLM"])
def test_merged_it_is_a_plain_folder(tmp_path: Path, body: str) -> None:
    base = make_tiny_model(tmp_path / "base", auto_class=body)
    write_jsonl("rows.jsonl", make_reviews(60))
    run = trained(base, "lora.merge=true")
    assert "model.safetensors" in {path.name for path in (run / "model").iterdir()}
    assert not (run / "model" / "adapter_config.json").exists()
    plain = AutoModelForSequenceClassification.from_pretrained(run / "model").eval()
    assert plain.config.id2label == {0: "bad", 1: "good"}
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    with torch.inference_mode():
        said = plain(**tokenizer("a lovely film", return_tensors="pt")).logits.softmax(-1)[0]
    shutil.rmtree(base)
    one = llmkit.predict("run", "a lovely film")[0]
    assert list(one["probabilities"].values()) == pytest.approx(said.tolist(), abs=1e-5)


def test_a_number_is_answered_in_the_users_units(tmp_path: Path) -> None:
    """Also by ModernBERT with r 1: its small matrices have as many rows as the head has outputs."""
    base = make_tiny_model(tmp_path / "base", "modernbert", auto_class="AutoModelForMaskedLM")
    write_jsonl("rows.jsonl", [
        {"text": row["text"], "label": 1000.0 + (30 if row["label"] == "good" else 0)} for row in make_reviews(80)
    ])  # fmt: skip
    run = trained(base, "classify.kind=regression", "lora.r=1", "train.learning_rate=1e-2", epochs=8.0)
    answers = [one["answer"] for one in llmkit.predict("run", data="rows.jsonl")]
    assert 1000 < np.mean(answers) < 1030
    assert np.std(answers) > 5
    with_peft = lora.load_with_peft(run / "model", "AutoModelForSequenceClassification", "float32").eval()
    tokenizer = AutoTokenizer.from_pretrained(run / "model")
    with torch.inference_mode():
        said = with_peft(**tokenizer(make_reviews(1)[0]["text"], return_tensors="pt")).logits.item()
    assert said == pytest.approx(answers[0], rel=1e-5)


def test_another_number_begins_with_a_head_in_other_units(tmp_path: Path) -> None:
    base = make_tiny_model(tmp_path / "base")
    write_jsonl("rows.jsonl", [{"text": row["text"], "label": 500 + len(row["text"])} for row in make_reviews(60)])
    first = llmkit.train(None, *FAST, "classify.kind=regression", task="classify", model=base, train="rows.jsonl",
                         output_dir="first").path  # fmt: skip
    run = trained(str(first), "classify.kind=regression", epochs=1.0)
    assert {"classifier"} == set(json.loads((run / "model/adapter_config.json").read_text())["modules_to_save"])
    assert 400 < float(llmkit.predict("run", "a lovely film")[0]["answer"]) < 700


def test_thresholds_travel_with_the_adapter(tiny: str) -> None:
    rows = [{"text": row["text"], "label": [row["label"], *(["long"] if len(row["text"]) > 40 else [])]}
            for row in make_reviews(60)]  # fmt: skip
    write_jsonl("rows.jsonl", rows)
    run = trained(tiny, "classify.kind=multi", "classify.thresholds=each")
    config = AutoConfig.from_pretrained(run / "model" / "model_config.json")
    assert config.problem_type == "multi_label_classification"
    assert len(config.thresholds) == 3
    said = llmkit.predict("run", data="rows.jsonl")
    for one in said:
        over = {name for (name, p), t in zip(one["probabilities"].items(), config.thresholds, strict=True) if p >= t}
        assert set(one["answer"]) == over


@pytest.mark.parametrize("body", ["AutoModel", "AutoModelForMaskedLM"])
def test_masked_language_models_are_adapted_too(tmp_path: Path, body: str) -> None:
    texts = make_sentences()
    base = make_tiny_model(tmp_path / "base", auto_class=body, texts=texts)
    write_lines("corpus.txt", texts)
    run = trained(base, "train.learning_rate=5e-3", task="mlm", train="corpus.txt", epochs=2.0)
    metrics = json.loads((run / "metrics.json").read_text())["metrics"]
    assert llmkit.evaluate("run")["metrics"]["loss"]["value"] == metrics["loss"]["value"]
    held = load_file(run / "model" / "adapter_model.safetensors")
    words = AutoConfig.from_pretrained(base).vocab_size
    assert not any(value.shape == (words, 32) for value in held.values())
    fresh = {name for name in held if "cls." in name and ".lora_" not in name}
    assert bool(fresh) == (body == "AutoModel")


def test_another_fine_tune_merges_it_and_says_so(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40, labels=("no", "yes")))
    again = trained(str(run), lora=None, epochs=1.0)
    assert f"the adapter of {run} is merged into its base\n" in capsys.readouterr().err
    assert (again / "model" / "model.safetensors").is_file()
    about = json.loads((again / "run.json").read_text())["model"]
    assert set(about["base"]["weights"]) == {"model.safetensors"}
    with pytest.raises(RecipeError) as caught:
        trained(str(run), output_dir="third")
    assert str(caught.value) == (
        f"lora: {run} is an adapter already, and an adapter of an adapter is none; leave lora out (it is merged into "
        "its base), or train it again with lora.merge=true"
    )
    assert not Path("third").exists()


def test_a_run_is_a_base_like_any_other(finished: Path, tmp_path: Path) -> None:
    base = Path(shutil.copytree(finished, tmp_path / "base"))
    write_jsonl("rows.jsonl", make_reviews(40, labels=("no", "maybe", "yes")))
    run = trained(str(base), epochs=1.0)
    assert json.loads((run / "model/base.json").read_text())["path"] == str(base / "model")
    assert llmkit.predict("run", "a film")[0]["answer"] in ("no", "maybe", "yes")
    shutil.move(base, tmp_path / "moved")
    with pytest.raises(MissingInputError) as caught:
        llmkit.predict("run", "a film")
    assert str(caught.value) == (
        f"run: an adapter, and its base {base} is not there (it was at {base / 'model'}); restore it, or pass its folder with "
        "--base FOLDER of eval and predict"
    )
    assert llmkit.predict("run", "a film", base=str(tmp_path / "moved"))[0]["answer"] in ("no", "maybe", "yes")


@pytest.fixture
def refused() -> Callable[..., str]:
    """What the exception says that `work` raises."""

    def sentence(work: Callable[[], object], kind: type[LlmkitError]) -> str:
        with pytest.raises(kind) as caught:
            work()
        return str(caught.value)

    return sentence


def test_what_cannot_be_is_refused_before_anything_is_written(
    tiny: str, run: Path, refused: Callable[..., str]
) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    assert refused(lambda: trained(tiny, "lora.quantize=4bit"), RecipeError).startswith("lora.quantize: 4bit needs ")
    assert refused(lambda: trained(tiny, "lora.target_modules=[nothing]"), RecipeError) == (
        "lora.target_modules: no layer 'nothing' to adapt; known: query, key, value, dense"
    )
    assert refused(lambda: llmkit.predict(tiny, "a film", base="x"), UsageError) == (
        f"--base x: {tiny} is a full model, which has none; leave it out"
    )
    other = make_tiny_model("other", seed=9)
    assert refused(lambda: llmkit.predict(str(run), "a film", base=other), ModelError) == (
        f"{run}: other is not the base that it was trained on: model.safetensors differs; "
        "restore it, or pass its folder with --base FOLDER of eval and predict"
    )
    assert not Path("run").exists()
