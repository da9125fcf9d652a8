"""Tests overrides of the model's config: applied, rejected or printed before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit import cli
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl

COMMAND = [
    "finetune-classify",
    "--train",
    "r.jsonl",
    "train.max_steps=1",
    "train.eval_strategy=no",
    "eval.baselines=[]",
    "-o",
    "run",
]


@pytest.fixture(autouse=True)
def data() -> None:
    write_jsonl("r.jsonl", make_reviews(30))


@pytest.mark.slow
@pytest.mark.parametrize(
    "key", ["num_labels=3", "problem_type=regression", "id2label={0: a}", "return_dict=false", "dtype=bfloat16"]
)
def test_config_keys_set_by_the_task_are_rejected(tiny: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([*COMMAND, "--model", tiny, f"model.config.{key}"]) == 78
    assert f"error: model.config.{key.partition('=')[0]}: " in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("key", ["vocab_size=10", "max_position_embeddings=8", "hidden_size=16"])
def test_config_keys_that_change_weight_shapes_are_rejected(
    tiny: str, key: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line([*COMMAND, "--model", tiny, f"model.config.{key}"]) in (65, 78)
    assert "internal error in llmkit" not in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.slow
def test_dropped_layers_are_printed(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([*COMMAND, "--model", tiny, "model.config.num_hidden_layers=1"]) == 0
    assert "; dropped from the files: " in capsys.readouterr().err


@pytest.mark.slow
def test_other_label_names_get_a_new_head(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("r.jsonl", make_reviews(30, labels=("zneg", "apos")))
    assert cli.run_command_line([*COMMAND, "--model", str(finished)]) == 0
    assert "; newly initialized: classifier\n" in capsys.readouterr().err


@pytest.mark.slow
def test_pad_token_is_set_in_config_if_needed(tiny: str) -> None:
    folder = make_tiny_model("electra", "electra")
    assert cli.run_command_line([*COMMAND, "--model", folder]) == 0
