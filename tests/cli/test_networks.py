"""Tests of RNN and CNN models by commands: training, saving, predicting, scoring, fine-tuning, and mistakes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from llmkit import cli
from llmkit.models.scratch.sizes import NETWORK_NAMES
from llmkit.runs.manifest import hash_file
from llmkit.testing import make_reviews, write_jsonl

pytestmark = pytest.mark.slow

# Small networks with few words train in a second; 60 rows are 12 steps in each epoch.
FAST = ["train.learning_rate=2e-2", "train.num_train_epochs=6", "train.per_device_train_batch_size=4",
        "model.config.embedding_size=16", "model.config.dropout=0.1"]  # fmt: skip
SMALL = {
    "rnn": ["hidden_size=8"],
    "lstm": ["hidden_size=8"],
    "gru": ["hidden_size=8"],
    "cnn": ["num_filters=8"],
    "bag": [],
}


def build_command(kind: str, *more: str, data: str = "rows.jsonl") -> list[str]:
    small = [f"model.config.{key}" for key in SMALL.get(kind, [])]
    return ["finetune-classify", "--train", data, "--model", kind, "-o", "run", *FAST, *small, *more]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Returns the folder of a finished run of a network, which is trained on first use."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp(kind)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(made[kind])
                write_jsonl("rows.jsonl", make_reviews(60))
                assert cli.run_command_line(build_command(kind)) == 0
        return made[kind]

    return get


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", NETWORK_NAMES)
def test_a_saved_network_predicts_the_same_in_plain_transformers(
    kind: str, runs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs(kind))
    assert read_json("run/metrics.json")["metrics"]["accuracy"]["value"] >= 0.8
    assert {path.name for path in Path("run/model").iterdir()} == {
        "config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained("run/model")
    model = AutoModelForSequenceClassification.from_pretrained("run/model").eval()
    for line in Path("run/predictions.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        with torch.inference_mode():
            expected = model(**tokenizer(row["text"], return_tensors="pt")).logits.softmax(-1)[0].tolist()
        probabilities = [row["probabilities"][model.config.id2label[i]] for i in range(2)]
        assert probabilities == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["lstm", "cnn"])
def test_eval_gives_the_numbers_of_the_run(
    kind: str, runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs(kind))
    assert cli.run_command_line(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json("run/metrics.json")
    assert cli.run_command_line(["eval", "run/model", "--data", "rows.jsonl", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["metrics"]["accuracy"]["value"] >= 0.8
    assert cli.run_command_line(["predict", "run", "a superb film", "a dull film"]) == 0
    predictions = [json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()]
    assert predictions == ["good", "bad"]


def test_the_vocabulary_has_only_words_of_the_training_rows(own_folder: Path) -> None:
    write_jsonl("rows.jsonl", make_reviews(20))
    write_jsonl(
        "other.jsonl", [{"text": f"zebra {i} zebra {label}", "label": label} for i, label in enumerate(["bad", "good"])]
    )
    more = ("--validation", "other.jsonl", "--test", "other.jsonl", "train.max_steps=1")
    assert cli.run_command_line(build_command("bag", *more)) == 0
    vocabulary = AutoTokenizer.from_pretrained("run/model").get_vocab()
    assert "film" in vocabulary
    assert "zebra" not in vocabulary


def test_a_run_repeats_itself_from_its_recipe(runs: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(runs("gru"))
    assert cli.run_command_line(["train", "run/recipe.yaml", "-o", "again"]) == 0
    one, two = (load_file(f"{run}/model/model.safetensors") for run in ("run", "again"))
    assert all(torch.equal(one[key], two[key]) for key in one)
    assert hash_file(Path("run/model/tokenizer.json")) == hash_file(Path("again/model/tokenizer.json"))


def test_a_network_is_fine_tuned_for_other_labels(
    runs: Callable[[str], Path], own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = runs("lstm") / "run"
    write_jsonl(
        "three.jsonl", make_reviews(45, labels=("a", "b"), seed=1)[:30] + make_reviews(15, labels=("c", "c"), seed=2)
    )
    command = ["finetune-classify", "--train", "three.jsonl", "--model", str(run), "--epochs", "1", "-o", "next"]
    assert cli.run_command_line([*command, "model.max_length=200"]) == 0
    messages = capsys.readouterr().err
    assert f"{run}: train.learning_rate 0.001, as networks need, not 5e-05; " in messages
    assert "parameters; newly initialized: classifier\n" in messages
    config = read_json("next/model/config.json")
    assert config["id2label"] == {"0": "a", "1": "b", "2": "c"}
    assert read_json("next/model/tokenizer_config.json")["model_max_length"] == 200
    assert hash_file(Path("next/model/tokenizer.json")) == hash_file(run / "model/tokenizer.json")


@pytest.mark.parametrize(("kind", "network"), [("multi", "cnn"), ("regression", "gru")])
def test_labels_and_numbers(kind: str, network: str, own_folder: Path) -> None:
    made = make_reviews(90)
    long = [len(row["text"]) > 40 for row in made]
    labels: list[Any] = [[row["label"], *["long"] * more] for row, more in zip(made, long, strict=True)]
    if kind == "regression":
        labels = [(40.5 if row["label"] == "good" else 10.5) + more for row, more in zip(made, long, strict=True)]
    write_jsonl("rows.jsonl", [row | {"label": label} for row, label in zip(made, labels, strict=True)])
    assert cli.run_command_line(build_command(network, f"classify.kind={kind}", "train.num_train_epochs=8")) == 0
    metrics = read_json("run/metrics.json")["metrics"]
    if kind == "multi":
        assert metrics["micro_f1"]["value"] > 0.75
    else:
        assert metrics["pearson"]["value"] > 0.8
        predictions = [
            json.loads(line)["prediction"] for line in Path("run/predictions.jsonl").read_text().splitlines()
        ]
        assert 15 < sum(predictions) / len(predictions) < 37  # in the unit of the file


def test_text_pairs_and_a_given_tokenizer(tiny: str, own_folder: Path) -> None:
    pairs = [row | {"text_pair": " ".join(row["text"].split()[:2])} for row in make_reviews(40)]
    write_jsonl("rows.jsonl", pairs)
    assert cli.run_command_line(build_command("rnn", "--tokenizer", tiny, "train.max_steps=2")) == 0
    assert AutoTokenizer.from_pretrained("run/model").get_vocab() == AutoTokenizer.from_pretrained(tiny).get_vocab()
    assert "vocabulary" not in Path("run/recipe.yaml").read_text(encoding="utf-8")
    assert list(read_json("run/run.json")["tokenizer"]) == ["name", "files"]


def test_word_vectors_initialize_the_known_words(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    numbers = np.random.default_rng(0).normal(0, 2, (2, 5)).round(3)
    rows = [
        f"{word} {' '.join(map(str, values))}"
        for word, values in zip(["film", "unseen"], numbers.tolist(), strict=True)
    ]
    Path("v.txt").write_text("2 5\n" + "\n".join(rows) + "\n", encoding="utf-8")
    slow = ["train.learning_rate=1e-9", "train.max_steps=1", "model.word_vectors=v.txt"]
    command = ["finetune-classify", "--train", "rows.jsonl", "--model", "bag", "-o", "run", *slow]
    assert cli.run_command_line(command) == 0
    words_known = len(AutoTokenizer.from_pretrained("run/model")) - 3
    assert f"word vectors: {1 / words_known:.0%} of the {words_known} words are in v.txt, the others are random\n" in (
        capsys.readouterr().err
    )
    table = load_file("run/model/model.safetensors")["network.words.weight"]
    assert table.shape == (words_known + 3, 5)
    film = AutoTokenizer.from_pretrained("run/model").get_vocab()["film"]
    torch.testing.assert_close(table[film], torch.tensor(numbers[0], dtype=torch.float32), rtol=0, atol=1e-6)
    assert read_json("run/run.json")["vectors"] == {"name": "v.txt", "sha256": hash_file(Path("v.txt"))}


def test_a_dry_run_of_a_network_keeps_nothing(own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("rows.jsonl", make_reviews(40))
    command = ["finetune-classify", "--train", "rows.jsonl", "--model", "cnn", "--dry-run", "--json"]
    assert cli.run_command_line(command) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["steps"] == 10
    assert (
        "precision: fp32 (hidden size 100 is below 256)" in captured.err or "precision: fp32 (this CPU" in captured.err
    )
    assert {path.name for path in Path.cwd().iterdir()} <= {"rows.jsonl", "runs"}
    assert not list(Path.cwd().glob("runs/*"))


@pytest.mark.parametrize(
    ("more", "code", "message"),
    [
        (["model.config.hiden_size=3"], 78, "error: model.config.hiden_size: the config of lstm has no such field; did you mean 'hidden_size'?"),
        (["model.config.hidden_size=0"], 78, "error: model.config: hidden_size 0 is out of range; it must be at least 1; write another value for the lstm"),
        (["model.word_vectors=none.txt"], 66, "error: model.word_vectors: none.txt: no such file; name a text file of word vectors, such as glove.6B.100d.txt"),
        (["model.word_vectors=v.txt"], 65, "error: v.txt:2: 2 numbers, 3 in the lines before; a line is a word and its numbers, as in glove.6B.100d.txt; convert a binary file to text"),
        (["model.word_vectors=w.txt", "model.config.embedding_size=9"], 78, "error: model.config.embedding_size: 9, and the vectors of w.txt have 2 numbers; leave it out"),
        (["model.vocabulary.min_frequency=500"], 65, "error: no word occurs 500 times in the training rows; lower model.vocabulary.min_frequency, or use more rows"),
        (["classify.kind=regression", "model.dtype=bfloat16", "--label", "stars"], 78, "error: model.dtype: bfloat16 keeps only three digits of a number; leave it out"),
        (["--tokenizer", "nopad"], 65, "error: nopad: it has no pad token; name another, or make one with `llmkit tokenizer train`"),
    ],
)  # fmt: skip
def test_mistakes(
    more: list[str], code: int, message: str, own_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmkit.testing import make_tiny_tokenizer

    make_tiny_tokenizer(Path("nopad"), pad=False)
    write_jsonl("rows.jsonl", [row | {"stars": i % 5} for i, row in enumerate(make_reviews(40))])
    Path("v.txt").write_text("film 1 2 3\nthe 1 2\n", encoding="utf-8")
    Path("w.txt").write_text("film 1 2\n", encoding="utf-8")
    there = {path.name for path in Path.cwd().iterdir()}
    capsys.readouterr()
    label = [] if "--label" in more else ["--label", "label"]
    assert (
        cli.run_command_line(
            ["finetune-classify", "--train", "rows.jsonl", "--model", "lstm", "-o", "run", *label, *more]
        )
        == code
    )
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert {path.name for path in Path.cwd().iterdir()} == there


@pytest.mark.parametrize("command", ["finetune-summarize", "finetune-translate", "pretrain-mlm"])
def test_other_tasks_reject_networks(command: str, own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([command, "--train", "none.jsonl", "--model", "lstm"]) == 78
    assert capsys.readouterr().err == (
        "error: model.name: a network trained from scratch (lstm) predicts only classes and numbers; train it with finetune-classify or "
        "finetune-sentiment; here name an encoder or an encoder-decoder\n"
    )


@pytest.mark.parametrize("command", ["finetune-classify", "finetune-sentiment"])
def test_lora_rejects_networks_from_scratch(command: str, own_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([command, "--train", "none.jsonl", "--model", "lstm", "--lora"]) == 78
    assert capsys.readouterr().err == (
        "error: lora: all weights of lstm are newly initialized: there is nothing to adapt; leave lora out\n"
    )
    assert not list(own_folder.iterdir())
