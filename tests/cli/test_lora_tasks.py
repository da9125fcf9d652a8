"""Tests of --lora with every task: the saved adapter predicts like its run, with its base moved, and in plain PEFT."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file

from llmkit import cli
from llmkit.models.adapters import lora
from llmkit.testing import make_articles, make_reviews, make_tiny_model, write_jsonl
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

FAST = ["--lora", "eval.baselines=[]", "train.learning_rate=5e-3", "train.per_device_train_batch_size=8",
        "train.num_train_epochs=4"]  # fmt: skip
SUMMARY_KEYS = ["--text", "text", "--summary", "summary", "summarize.prefix='sum: '", "summarize.num_beams=2",
          "summarize.no_repeat_ngram_size=2", "summarize.max_target_length=12"]  # fmt: skip
TRANSLATION_KEYS = ["translate.max_target_length=9"]


def make_three_classes(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    return [row | {"label": ("neg", "neu", "pos")[i % 3]} for i, row in enumerate(make_reviews(rows, seed))]


def make_scores(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    return [row | {"label": 1.5 * (i % 2) - 0.25 * (i % 3)} for i, row in enumerate(make_reviews(rows, seed))]


def make_pairs(rows: int, seed: int = 0) -> list[dict[str, Any]]:
    return [{"source": row["text"], "target": row["summary"]} for row in make_articles(rows, seed)]


CASES: list[Any] = [
    pytest.param("sentiment", {}, make_reviews, ["sentiment.threshold=tuned"], id="two classes"),
    pytest.param("sentiment", {}, make_reviews, ["sentiment.neutral=0.2"], id="a band"),
    pytest.param("sentiment", {}, make_three_classes, [], id="three classes"),
    pytest.param(
        "sentiment", {}, make_scores, ["sentiment.classes=score", "sentiment.neutral=[0.1, 0.9]"], id="a score"
    ),
    pytest.param("summarize", {"family": "t5"}, make_articles, SUMMARY_KEYS, id="a summary, T5"),
    pytest.param("summarize", {"family": "bart"}, make_articles, SUMMARY_KEYS, id="a summary, BART"),
    pytest.param("translate", {"family": "t5"}, make_pairs, TRANSLATION_KEYS, id="a translation, T5"),
    pytest.param("translate", {"family": "marian"}, make_pairs, TRANSLATION_KEYS, id="a translation, Marian"),
]


def read_predictions(text: str) -> list[Any]:
    """The predictions in JSON lines."""
    return [json.loads(line)["prediction"] for line in text.splitlines()]


@pytest.mark.parametrize(("task", "model", "rows", "keys"), CASES)
def test_an_adapter_predicts_like_its_run(
    task: str,
    model: dict[str, str],
    rows: Callable[..., list[dict[str, Any]]],
    keys: Sequence[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    base = make_tiny_model("base", **model)
    for name, number in (("train", 40), ("validation", 44), ("test", 12)):
        write_jsonl(f"{name}.jsonl", rows(number, seed=number))
    data = [word for name in ("train", "validation", "test") for word in (f"--{name}", f"{name}.jsonl")]
    assert cli.run_command_line([f"finetune-{task}", *data, "--model", base, *FAST, *keys, "-o", "run"]) == 0
    capsys.readouterr()
    predictions = read_predictions(Path("run/predictions.jsonl").read_text())
    about = json.loads(Path("run/metrics.json").read_text())

    assert cli.run_command_line(["eval", "run", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["task"], again["metrics"]) == (task, about["metrics"])
    assert again["labels"] == about["labels"]
    shutil.move("base", "moved")
    assert cli.run_command_line(["predict", "run", "--data", "test.jsonl"]) == 66
    capsys.readouterr()
    for name in ("run", "run/model"):  # the adapter folder stores its task, thresholds and settings
        assert cli.run_command_line(["predict", name, "--data", "test.jsonl", "--base", "moved"]) == 0
        assert read_predictions(capsys.readouterr().out) == predictions, name


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing")
def test_plain_peft_predicts_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    base = make_tiny_model("base", "bart")
    write_jsonl("a.jsonl", make_pairs(30))
    words = ["finetune-translate", "--train", "a.jsonl", "--model", base, *FAST, *TRANSLATION_KEYS, "-o", "run"]
    assert cli.run_command_line(words) == 0
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), "run/model").eval()
    tokenizer = AutoTokenizer.from_pretrained("run/model")
    rows = [json.loads(line) for line in Path("run/predictions.jsonl").read_text().splitlines()]
    for row in rows:
        ids = model.generate(**tokenizer(row["source"], return_tensors="pt"), max_length=10, do_sample=False)
        assert tokenizer.decode(ids[0], skip_special_tokens=True) == row["prediction"]


def test_the_best_adapter_is_restored(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def evaluate(self: StepTrainer, *_: Any, **__: Any) -> dict[str, float]:
        seen.append({name: weight.detach().clone() for name, weight in self.model.state_dict().items()})
        values = {"eval_bleu": (0.1, 0.9, 0.2, 0.1)[len(seen) - 1]}
        self.log(dict(values))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, values)
        return values

    monkeypatch.setattr(StepTrainer, "evaluate", evaluate)
    write_jsonl("a.jsonl", make_pairs(30))
    words = [
        "finetune-translate",
        "--train",
        "a.jsonl",
        "--model",
        make_tiny_model("base", "bart"),
        *FAST,
        *TRANSLATION_KEYS,
    ]
    assert cli.run_command_line([*words, "-o", "run"]) == 0
    kept = {name.removeprefix(lora.PEFT_PREFIX).replace(".weight", ".default.weight"): weight
            for name, weight in load_file("run/model/adapter_model.safetensors").items()}  # fmt: skip
    assert len(kept) == 64
    assert all(torch.equal(weight, seen[1][name]) for name, weight in kept.items())
    assert not any(torch.equal(weight, seen[3][name]) for name, weight in kept.items())


def test_an_adapter_checkpoint_has_the_buffers_too() -> None:
    from transformers import AutoModelForSeq2SeqLM

    from llmkit.schema import LoraSection
    from llmkit.training.checkpoints import state_dict

    model = AutoModelForSeq2SeqLM.from_pretrained(make_tiny_model("base", "bart"))
    lora.add_lora_adapter(model, (), LoraSection(), "AutoModelForSeq2SeqLM")
    kept = state_dict.select_checkpoint_weights(model)
    assert {name for name in kept if ".lora_" not in name} == {"final_logits_bias"}
