"""Translation: two columns of languages, BLEU, and codes for tokenizers of many languages."""

from __future__ import annotations

from typing import Any

import pytest

import llmkit
from llmkit.errors import RecipeError
from llmkit.models.load import load_model
from llmkit.models.names import resolve
from llmkit.tasks.translate import Translate, TranslateOptions
from llmkit.testing import articles, tiny_model, write_jsonl


def test_two_columns_are_a_translation(own_folder: Any) -> None:
    rows = [{"en": row["text"], "xx": row["summary"]} for row in articles(24)]
    keys = ["train.max_steps=2", "translate.max_target_length=8", "model.max_length=32"]
    run = llmkit.train(None, *keys, task="translate", model=tiny_model("t5", "t5"), train=write_jsonl("p.jsonl", rows),
                       source="en", target="xx", output_dir="run")  # fmt: skip
    assert run.report is not None
    assert list(run.report.metrics) == ["bleu", "chrf"]
    assert list(run.report.baselines) == ["copy"]
    (said,) = llmkit.predict("run", data=write_jsonl("q.jsonl", [{"en": "the film 3"}]))
    assert set(said) == {"en", "answer"}


def test_a_tokenizer_of_one_language_has_no_codes(own_folder: Any) -> None:
    loaded = load_model(resolve(tiny_model("t5", "t5")), "AutoModelForSeq2SeqLM", {})
    with pytest.raises(RecipeError) as fault:
        Translate(TranslateOptions(target_language="zh_CN")).equip(loaded.model, loaded.tokenizer)
    assert str(fault.value) == "translate.target_language: the tokenizer has no languages to choose from; leave it out"
