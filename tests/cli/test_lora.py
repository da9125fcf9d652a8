"""Tests of --lora and --base on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from llmkit import cli
from llmkit.testing import make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines


@pytest.mark.slow
def test_one_flag_trains_an_adapter_and_its_base_may_move(capsys: pytest.CaptureFixture[str]) -> None:
    base = make_tiny_model("base")
    write_jsonl("r.jsonl", make_reviews(40))
    words = ["finetune-classify", "--train", "r.jsonl", "--model", base, "--lora", "-o", "run", "train.max_steps=2"]
    assert cli.run_command_line([*words, "lora.r=4", "eval.baselines=[]"]) == 0
    messages = capsys.readouterr().err
    assert "\nlora: r 4 on query, key, value, dense (13 modules, 2 layers); fully trained: classifier; " in messages
    assert json.loads(Path("run/model/adapter_config.json").read_text())["r"] == 4
    assert cli.run_command_line(["predict", "run", "a great film"]) == 0
    predictions = capsys.readouterr().out
    shutil.move("base", "moved")
    assert cli.run_command_line(["eval", "run", "--data", "r.jsonl"]) == 66
    assert capsys.readouterr().err == (
        f"error: run: an adapter, and its base base is missing (it was at {Path('base').resolve()}); "
        "restore it, or pass its folder with --base FOLDER of eval and predict\n"
    )
    assert cli.run_command_line(["predict", "run", "a great film", "--base", "moved"]) == 0
    assert capsys.readouterr().out == predictions
    assert cli.run_command_line(["eval", "run", "--data", "r.jsonl", "--base", "moved", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 40


@pytest.mark.slow
def test_masked_language_modeling_with_lora(capsys: pytest.CaptureFixture[str]) -> None:
    base = make_tiny_model("base", auto_class="AutoModelForMaskedLM", texts=make_sentences())
    write_lines("c.txt", make_sentences(60))
    assert (
        cli.run_command_line(
            ["pretrain-mlm", "--train", "c.txt", "--model", base, "--lora", "-o", "run", "train.max_steps=2"]
        )
        == 0
    )
    assert (
        "\nlora: r 16 on query, key, value, dense (13 modules, 2 layers); learning rate 0.001\n"
        in capsys.readouterr().err
    )
    about = json.loads(Path("run/metrics.json").read_text())
    shutil.move("base", "moved")
    for name in ("run", "run/model"):
        assert cli.run_command_line(["eval", name, "--data", "c.txt", "--base", "moved", "--json"]) == 0
        assert set(json.loads(capsys.readouterr().out)["metrics"]) == set(about["metrics"])
        assert cli.run_command_line(["predict", name, "kato [MASK] ri", "--base", "moved"]) == 0
        capsys.readouterr()


@pytest.mark.slow
def test_a_dry_run_with_lora(capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("r.jsonl", make_reviews(40))
    words = [
        "finetune-classify",
        "--train",
        "r.jsonl",
        "--model",
        make_tiny_model("base"),
        "--lora",
        "--dry-run",
        "--json",
    ]
    assert cli.run_command_line(words) == 0
    captured = capsys.readouterr()
    assert "weights (" in captured.err
    assert json.loads(captured.out)["disk"] < 4 * 2**20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["lora.r=0"], "lora.r: 0 is out of range; it must be at least 1"),
        (["lora.lora_alpha=0"], "lora.lora_alpha: 0 is out of range; it must be above 0"),
        (["lora.lora_dropout=1"], "lora.lora_dropout: 1 is out of range; it must be below 1"),
        (["lora=5"], "lora: 5 is not a mapping of keys"),
        (["lora.rank=8"], "lora.rank: unknown key; did you mean 'r'?"),
        (["lora.lora_r=8"], "lora.lora_r: unknown key; did you mean 'r'?"),
        (["lora.targets=[query]"], "lora.targets: unknown key; did you mean 'target_modules'?"),
        (["lora.dropot=0"], "lora.dropot: unknown key; did you mean 'lora_dropout'?"),
        (
            ["lora.target_modules=query"],
            "lora.target_modules: must be all-linear, or a list of layers such as [query, value]",
        ),
        (
            ["lora.merge=true", "lora.quantize=8bit"],
            "lora.merge: adapters cannot be merged exactly into 8bit weights; leave one out",
        ),
        (
            ["lora=true", "model.from_config=bert-tiny", "model.tokenizer=x"],
            "lora: adapts pretrained weights, and model.from_config trains from scratch; leave one out",
        ),
    ],
)
def test_a_mistake_in_its_section(keys: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["finetune-classify", "--train", "r.jsonl", *keys]) == 78
    assert capsys.readouterr().err == f"error: command line: {message}\n"
