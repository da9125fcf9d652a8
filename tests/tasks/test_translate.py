"""Tests of translation: columns, BLEU, and language codes of multilingual tokenizers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import llmkit
from llmkit import tasks
from llmkit.data.rows import build_rows
from llmkit.errors import RecipeError
from llmkit.models.load import load_model, load_tokenizer
from llmkit.models.sources.model_ref import resolve_model
from llmkit.models.tokenizers import encode
from llmkit.tasks.summarize import Summarize, SummarizeOptions
from llmkit.tasks.translate import Translate, TranslateOptions
from llmkit.testing import make_articles, make_sentencepiece_tokenizer, make_tiny_model, write_jsonl


@pytest.mark.slow
def test_two_columns_are_trained_as_a_translation(own_folder: Any) -> None:
    rows = [{"en": row["text"], "xx": row["summary"]} for row in make_articles(24)]
    keys = ["train.max_steps=2", "translate.max_target_length=8", "model.max_length=32"]
    run = llmkit.train(None, *keys, task="translate", model=make_tiny_model("t5", "t5"), train=write_jsonl("p.jsonl", rows),
                       source="en", target="xx", output_dir="run")  # fmt: skip
    assert run.report is not None
    assert list(run.report.metrics) == ["bleu", "chrf"]
    assert list(run.report.baselines) == ["copy"]
    (record,) = llmkit.predict("run", data=write_jsonl("q.jsonl", [{"en": "the film 3"}]))
    assert set(record) == {"en", "prediction"}


# By kind of tokenizer: the model family, the language codes of the recipe, and the expected generation settings.
SPM: dict[str, tuple[str, list[str], dict[str, str]]] = {
    "marian": ("marian", [], {"decoder_start_token_id": "<pad>"}),
    "m2m_100": ("m2m_100", ["en", "de"], {"decoder_start_token_id": "</s>", "forced_bos_token_id": "__de__"}),
    "mbart": ("mbart", ["en_XX", "de_DE"], {"decoder_start_token_id": "de_DE"}),
    "mbart50": ("mbart", ["en_XX", "de_DE"], {"decoder_start_token_id": "</s>", "forced_bos_token_id": "de_DE"}),
    "nllb": ("m2m_100", ["eng_Latn", "deu_Latn"],
             {"decoder_start_token_id": "</s>", "forced_bos_token_id": "deu_Latn"}),
    "plbart": ("plbart", ["python", "en_XX"], {"decoder_start_token_id": "__en_XX__"}),
    "t5": ("t5", [], {"decoder_start_token_id": "<pad>"}),
    "pegasus": ("pegasus", [], {"decoder_start_token_id": "<pad>"}),
}  # fmt: skip


def pairs(number: int = 24) -> list[dict[str, str]]:
    return [{"source": row["text"], "target": row["summary"].upper()} for row in make_articles(number)]


def language_keys(codes: list[str]) -> list[str]:
    return [f"translate.{key}_language={code}" for key, code in zip(("source", "target"), codes, strict=False)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPM)
def test_sentencepiece_models_train_reload_and_predict_in_their_language(kind: str, own_folder: Any) -> None:
    family, codes, begins = SPM[kind]
    model = make_tiny_model("m", family, tokenizer_kind=kind, texts=[row["target"] for row in pairs()])
    keys = ["train.max_steps=1", "translate.max_target_length=32", "model.max_length=64", "eval.metrics=[chrf]"]
    data = write_jsonl("p.jsonl", pairs())
    llmkit.train(None, *keys, *language_keys(codes), task="translate", model=model, train=data, output_dir="run")
    plain = AutoModelForSeq2SeqLM.from_pretrained("run/model").generation_config
    tokenizer = AutoTokenizer.from_pretrained("run/model")
    for setting in ("decoder_start_token_id", "forced_bos_token_id"):
        token = getattr(plain, setting)
        assert (token is None) == (setting not in begins)
        assert token is None or tokenizer.convert_ids_to_tokens(token) == begins[setting]
    (record,), (again,) = (llmkit.predict(name, ["the film 5"], task="translate") for name in ("run", "run/model"))
    assert record["prediction"] == again["prediction"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", SPM)
def test_encoded_targets_decode_to_the_same_text(kind: str, own_folder: Any) -> None:
    family, codes, _ = SPM[kind]
    name = make_tiny_model("m", family, tokenizer_kind=kind, texts=[row["target"] for row in pairs()])
    tokenizer = load_tokenizer(resolve_model(name), allow_slow=True)
    loaded = load_model(resolve_model(name), "AutoModelForSeq2SeqLM", {}, tokenizer=tokenizer)
    task = Translate(TranslateOptions(**dict(zip(("source_language", "target_language"), codes, strict=False))))
    task.configure_model(loaded.model, tokenizer)
    columns = {word: [row[word] for row in pairs(4)] for word in ("source", "target")}
    rows = build_rows(columns, "rows", range(1, 5), row_numbered=True).with_column_mapping(
        {word: word for word in columns}
    )
    encoded = task.encode(rows, tokenizer, 64)
    assert (encoded.num_truncated, encoded.num_truncated_targets) == (0, 0)
    assert [one.value for one in task.decode([one["labels"] for one in encoded.features], encoded.features)] == columns[
        "target"
    ]
    batch = task.collator(tokenizer)(encoded.features)
    first_tokens = task.inputs(loaded.model, batch)["decoder_input_ids"][:, 0]
    assert set(first_tokens.tolist()) == {loaded.model.generation_config.decoder_start_token_id}


def test_marian_encodes_targets_with_the_target_vocabulary(own_folder: Any) -> None:
    tokenizer = make_sentencepiece_tokenizer(Path("m"), "marian")
    (ids,), num_truncated = encode.encode_targets(tokenizer, ["A VERY DULL FILM"], 32, None, 0)
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.unk_token_id in tokenizer("A VERY DULL FILM").input_ids
    assert (ids[-1], num_truncated) == (0, 0)
    assert encode.encode_targets(tokenizer, ["A VERY DULL FILM", "A"], 4, None, 0)[1] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "codes", "sentence"),
    [
        ("m2m_100", [], ("translate.target_language: required: the tokenizer has many languages; write the code of the "
         "language to translate into, as its model card spells it")),
        ("m2m_100", ["en", "xx"], ("translate.target_language: the tokenizer has no language 'xx'; write its code, as "
         "its model card does")),
        ("mbart", ["xx"], ("translate.source_language: the tokenizer has no language 'xx'; write its code, as its model "
         "card does")),
    ],
)  # fmt: skip
def test_a_missing_language_is_an_error(kind: str, codes: list[str], sentence: str, own_folder: Any) -> None:
    model, data = make_tiny_model("m", SPM[kind][0], tokenizer_kind=kind), write_jsonl("p.jsonl", pairs())
    with pytest.raises(RecipeError) as error:
        llmkit.train(None, *language_keys(codes), task="translate", model=model, train=data, output_dir="no")
    assert str(error.value) == sentence
    assert not Path("no").exists()


def test_a_model_of_one_target_language_keeps_it(own_folder: Any) -> None:
    name = make_tiny_model("m", "mbart", tokenizer_kind="mbart50")
    tokenizer = load_tokenizer(resolve_model(name))
    loaded = load_model(resolve_model(name), "AutoModelForSeq2SeqLM", {}, tokenizer=tokenizer)
    loaded.model.generation_config.forced_bos_token_id = tokenizer.convert_tokens_to_ids("ro_RO")
    assert "languages: en_XX to ro_RO" in Translate().configure_model(loaded.model, tokenizer)
    assert tokenizer.tgt_lang == "ro_RO"


def test_a_summary_is_in_the_language_of_its_text(own_folder: Any) -> None:
    name = make_tiny_model("m", "m2m_100", tokenizer_kind="m2m_100")
    tokenizer = load_tokenizer(resolve_model(name), allow_slow=True)
    loaded = load_model(resolve_model(name), "AutoModelForSeq2SeqLM", {}, tokenizer=tokenizer)
    assert tasks.load_task("summarize") is Summarize  # loading sets its name
    notes = Summarize(SummarizeOptions(source_language="fr")).configure_model(loaded.model, tokenizer)
    assert "languages: fr to fr" in notes


def test_a_tokenizer_of_one_language_has_no_codes(own_folder: Any) -> None:
    loaded = load_model(resolve_model(make_tiny_model("t5", "t5")), "AutoModelForSeq2SeqLM", {})
    with pytest.raises(RecipeError) as error:
        Translate(TranslateOptions(target_language="zh_CN")).configure_model(loaded.model, loaded.tokenizer)
    assert str(error.value) == "translate.target_language: the tokenizer has no languages to choose from; leave it out"
