"""Tests that unknown tokens are counted among text tokens and reported per column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.errors import DataError
from llmkit.models.load import load_tokenizer
from llmkit.models.sources.model_ref import ModelRef
from llmkit.testing import CHINESE_CHARACTERS, make_articles, make_sentences, make_tiny_model, write_jsonl, write_lines
from llmkit.training.setup.unknown_tokens import measure_unknown_share

KEYS = ("train.max_steps=1", "train.eval_strategy=no", "train.save_strategy=no", "model.max_length=64",
        "translate.max_target_length=12", "eval.metrics=[chrf]", "eval.baselines=[]")  # fmt: skip
TRAIN_ON_BOTH = "a tokenizer of both columns (llmkit tokenizer train FILE --column en --column zh)"


def translate(share: float, *, swapped: bool = False, **flags: Any) -> None:
    """Train on pairs in which this share of the targets is Chinese, or of the sources if `swapped`."""
    articles = make_articles(40)
    other = [CHINESE_CHARACTERS[index % 30 : index % 30 + 4] for index in range(len(articles))]
    zh = [
        text if index < share * len(articles) else row["summary"]
        for index, (text, row) in enumerate(zip(other, articles, strict=True))
    ]
    en, zh = (zh, [row["summary"] for row in articles]) if swapped else ([row["text"] for row in articles], zh)
    data = write_jsonl("pairs.jsonl", [{"en": one, "zh": two} for one, two in zip(en, zh, strict=True)])
    keys = (*KEYS, "data.columns={source: en, target: zh}", "data.on_leak=ignore", "data.split.validation=0")
    llmkit.train(None, *keys, task="translate", train=data, output_dir="run", **flags)


@pytest.mark.slow
@pytest.mark.parametrize("swapped", [False, True])
def test_column_with_unknown_tokens_is_named(swapped: bool, capsys: pytest.CaptureFixture[str]) -> None:
    translate(0.5, swapped=swapped, model=make_tiny_model("t5", "t5"))
    (message,) = [line for line in capsys.readouterr().err.splitlines() if "does not know" in line]
    start, _, rest = message.partition("% of the tokens of ")
    assert 10 < int(start.removeprefix("the tokenizer does not know ")) < 90
    assert rest == f"'{'en' if swapped else 'zh'}': name another model, or --from-config and {TRAIN_ON_BOTH}"


@pytest.mark.slow
def test_no_warning_without_unknown_tokens(capsys: pytest.CaptureFixture[str]) -> None:
    translate(0, model=make_tiny_model("t5", "t5"))
    assert "does not know" not in capsys.readouterr().err


@pytest.mark.parametrize("from_scratch", [False, True])
def test_targets_of_unknown_tokens_are_rejected(from_scratch: bool) -> None:
    model = make_tiny_model("t5", "t5")
    with pytest.raises(DataError) as caught:
        translate(1, **({"from_config": "t5-tiny", "tokenizer": model} if from_scratch else {"model": model}))
    fix = f"train {TRAIN_ON_BOTH}" if from_scratch else f"name another model, or --from-config and {TRAIN_ON_BOTH}"
    assert str(caught.value) == (
        "pairs.jsonl: the tokenizer does not know 100% of the tokens of 'zh', and a model cannot learn to write "
        f"unknown tokens; {fix}"
    )
    assert not Path("run").exists()


@pytest.mark.slow
def test_sources_of_unknown_tokens_give_a_warning_only(capsys: pytest.CaptureFixture[str]) -> None:
    translate(1, swapped=True, model=make_tiny_model("t5", "t5"))
    assert "the tokenizer does not know 100% of the tokens of 'en': name another model, " in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["wordpiece", "unigram", "bpe"])
def test_special_tokens_and_space_markers_are_not_counted(algorithm: str) -> None:
    llmkit.train_tokenizer(write_lines("c.txt", make_sentences(200)), output_dir="tok", kind=algorithm, vocab_size=400)
    tokenizer = load_tokenizer(ModelRef("tok", "tok", Path("tok")), ())
    unknown, known = (
        [{"labels": tokenizer(text).input_ids} for text in texts] for texts in (["国王", "唐僧"], ["kato ri", "mu"])
    )
    assert measure_unknown_share(tokenizer, unknown, "labels") == (0 if algorithm == "bpe" else 1)
    assert measure_unknown_share(tokenizer, known, "labels") == 0
    assert measure_unknown_share(tokenizer, [], "labels") == 0
