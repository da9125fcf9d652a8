"""Changes of the model's own config: honoured, refused, or said, before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit import cli
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl

WORDS = [
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


@pytest.mark.parametrize(
    "key", ["num_labels=3", "problem_type=regression", "id2label={0: a}", "return_dict=false", "dtype=bfloat16"]
)
def test_what_the_task_decides_is_refused(tiny: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([*WORDS, "--model", tiny, f"model.config.{key}"]) == 78
    assert f"error: model.config.{key.partition('=')[0]}: " in capsys.readouterr().err
    assert not Path("run").exists()


@pytest.mark.parametrize("key", ["vocab_size=10", "max_position_embeddings=8", "hidden_size=16"])
def test_what_breaks_the_weights_shapes_is_refused(tiny: str, key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([*WORDS, "--model", tiny, f"model.config.{key}"]) in (65, 78)
    assert "internal error in llmkit" not in capsys.readouterr().err
    assert not Path("run").exists()


def test_layers_that_are_left_out_are_said(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line([*WORDS, "--model", tiny, "model.config.num_hidden_layers=1"]) == 0
    assert "; left out of the files: " in capsys.readouterr().err


def test_labels_of_another_name_get_a_fresh_head(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("r.jsonl", make_reviews(30, labels=("zneg", "apos")))
    assert cli.run_command_line([*WORDS, "--model", str(finished)]) == 0
    assert "; fresh: classifier\n" in capsys.readouterr().err


def test_a_model_family_that_needs_a_pad_token_in_its_config_gets_it(tiny: str) -> None:
    folder = make_tiny_model("electra", "electra")
    assert cli.run_command_line([*WORDS, "--model", folder]) == 0
