"""Tests of masked language modeling by commands: pretraining, scoring, predicting, and fine-tuning the result."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

import llmkit
from llmkit import cli
from llmkit.data.prepare import read_splits
from llmkit.inference.load_saved import load_saved_model
from llmkit.metrics.masked_lm import MASKED_LM_METRICS, score_masked_lm
from llmkit.tasks.mlm import EVAL_MASKING
from llmkit.testing import make_reviews, make_sentences, make_tiny_model, write_jsonl, write_lines

pytestmark = pytest.mark.slow

TEXTS = [*make_sentences(90), " ".join(make_sentences(30, seed=1))]  # the last is longer than one row
FAST = ["train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "model.max_length=64"]
ALL = [f"--metric={name}" for name in MASKED_LM_METRICS]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny_mlm: str) -> Path:
    """A folder with a corpus, a tokenizer trained on it, a run from scratch (`fresh`), and one that continues the tiny
    model (`on`); both scored by every metric."""
    folder = tmp_path_factory.mktemp("mlm")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_lines("c.txt", TEXTS)
        write_lines("other.txt", make_sentences(20, seed=2))
        assert cli.run_command_line(["tokenizer", "train", "c.txt", "--vocab-size", "200", "-o", "tok"]) == 0
        keys = [*FAST, f"eval.metrics=[{', '.join(MASKED_LM_METRICS)}]", "--epochs", "2"]
        fresh = ["--from-config", "bert-tiny", "--tokenizer", "tok", "-o", "fresh", "mlm.whole_words=true"]
        assert cli.run_command_line(["pretrain-mlm", "--train", "c.txt", *fresh, *keys]) == 0
        assert cli.run_command_line(["pretrain-mlm", "--train", "c.txt", "--model", tiny_mlm, "-o", "on", *keys]) == 0
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Change to the folder of the runs; files that tests write into it have different names."""
    monkeypatch.chdir(home)
    return home


RunJson = Callable[..., Any]


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> RunJson:
    """Run a command that must succeed; returns the records that it prints to stdout."""

    def records(*words: str) -> Any:
        capsys.readouterr()
        assert cli.run_command_line(list(words)) == 0, capsys.readouterr().err
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return records


@pytest.fixture
def run_failing(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command that must fail with `code`; returns its error message."""

    def message(code: int, *words: str) -> str:
        capsys.readouterr()
        assert cli.run_command_line(list(words)) == code, capsys.readouterr().err
        return "\n".join(line for line in capsys.readouterr().err.splitlines() if line.startswith("error: "))

    return message


def read_lines(path: str | Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def read_json(path: str | Path) -> Any:
    return json.loads(Path(path).read_text(encoding="utf-8"))


@pytest.mark.parametrize("run", ["fresh", "on"])
def test_every_score_follows_from_the_sums_per_document(here: Path, run: str) -> None:
    metrics, rows = read_json(f"{run}/metrics.json"), read_lines(f"{run}/predictions.jsonl")
    assert (metrics["task"], metrics["split"], metrics["n"], metrics["labels"]) == ("mlm", "test", len(rows), [])
    assert {key for row in rows for key in row} == {"text", "sums"}
    again = score_masked_lm(MASKED_LM_METRICS, [row["sums"] for row in rows], EVAL_MASKING)
    assert list(metrics["metrics"]) == list(MASKED_LM_METRICS)
    for name, score in metrics["metrics"].items():
        expected = again[name].as_dict()
        assert {key: score[key] for key in ("value", "low", "high")} == pytest.approx(
            {key: expected[key] for key in ("value", "low", "high")}, rel=0, abs=1e-9
        )
        kind, masks, *rest = expected["signature"].split("|")
        words = score["signature"].split("|")[2]
        assert words.startswith("vocabulary sha256:")
        assert score["signature"] == "|".join([kind, masks, words, *rest])
    assert set(metrics["baselines"]) == {"unigram"}
    assert list(metrics["baselines"]["unigram"]) == list(MASKED_LM_METRICS)


def test_token_counts_are_those_of_the_texts(here: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained("on/model")
    for row in read_lines("on/predictions.jsonl"):
        count = len(tokenizer(row["text"], add_special_tokens=False)["input_ids"])
        assert row["sums"]["tokens"] == count
        assert 1 <= row["sums"]["masked"] <= count


@pytest.mark.parametrize("run", ["fresh", "on"])
def test_the_saved_model_is_the_scored_one(here: Path, run: str, run_json: RunJson) -> None:
    assert run_json("eval", run, "--json") == [read_json(f"{run}/metrics.json")]
    about = read_json(f"{run}/run.json")
    assert about["sealed"]
    assert ("tokenizer" in about) == (run == "fresh")
    model = AutoModelForMaskedLM.from_pretrained(f"{run}/model")
    tokenizer = AutoTokenizer.from_pretrained(f"{run}/model")
    assert model.config.architectures == ["BertForMaskedLM"]
    assert (model.config.vocab_size, tokenizer.model_max_length) == (len(tokenizer), 64)
    text = "ka to [MASK] ri ."
    batch = tokenizer(text, return_tensors="pt")
    with torch.inference_mode():
        probabilities = model(**batch).logits[batch["input_ids"] == tokenizer.mask_token_id].softmax(-1)[0]
    (record,) = run_json("predict", run, text)
    assert record["prediction"] == text.replace("[MASK]", next(iter(record["probabilities"]))).replace(" ##", "")
    assert list(record["probabilities"].values()) == pytest.approx(probabilities.topk(5).values.tolist(), abs=1e-6)


def test_it_learns(here: Path, tiny_mlm: str, run_json: RunJson) -> None:
    write_lines("few.txt", make_sentences(30))
    keys = ["train.learning_rate=1e-2", "train.per_device_train_batch_size=4", "data.split.validation=0"]
    words = ["pretrain-mlm", "--train", "few.txt", "--model", tiny_mlm, "--epochs", "60", "-o", "learned"]
    run_json(*words, *keys, "data.split.test=0", "--json")
    (after,) = run_json("eval", "learned", "--data", "few.txt", "--json")
    (before,) = run_json("eval", tiny_mlm, "--data", "few.txt", "--json")
    loss = after["metrics"]["loss"]["value"]
    assert loss < after["baselines"]["unigram"]["loss"]["value"] - 1
    assert loss < before["metrics"]["loss"]["value"] - 3


def test_a_dry_run_keeps_nothing(here: Path, run_json: RunJson) -> None:
    before = sorted(here.rglob("*"))
    words = ["pretrain-mlm", "--train", "c.txt", "--from-config", "bert-tiny", "--tokenizer", "tok", *FAST]
    (estimate,) = run_json(*words, "--dry-run", "--json", "-o", "never")
    assert estimate["rows"] == {"train": 73, "validation": 9, "test": 9}
    assert estimate["steps"] > 0
    assert sorted(here.rglob("*")) == before


def test_other_data_in_any_format_gives_the_same_scores(here: Path, run_json: RunJson) -> None:
    texts = Path("other.txt").read_text(encoding="utf-8").splitlines()
    write_jsonl("other.jsonl", [{"body": text, "id": i} for i, text in enumerate(texts)])
    pq.write_table(pa.table({"text": texts, "id": list(range(20))}), "other.parquet")
    Path("folder/deep").mkdir(parents=True, exist_ok=True)
    write_lines("folder/a.txt", texts[:9])
    write_lines("folder/deep/b.txt", texts[9:])
    (plain,) = run_json("eval", "on", "--data", "other.txt", *ALL, "--json")
    assert (plain["split"], plain["n"]) == ("other.txt", 20)
    forms = (["other.jsonl", "--text", "body"], ["other.parquet"], ["folder"])
    for data, *more in forms:
        (other,) = run_json("eval", "on", "--data", data, *more, *ALL, "--json")
        assert other["metrics"] == plain["metrics"], data
        assert other["baselines"] == plain["baselines"]


@pytest.mark.parametrize(("unit", "count"), [("line", 6), ("block", 3), ("file", 1)])
def test_a_document_is_a_line_a_block_or_a_file(here: Path, run_json: RunJson, unit: str, count: int) -> None:
    texts = make_sentences(6)
    Path("parted.txt").write_text("\n".join([*texts[:3], "", *texts[3:5], "", "", texts[5]]) + "\n", encoding="utf-8")
    (found,) = run_json(
        "eval", "on", "--data", "parted.txt", f"data.document_unit={unit}", "--json", "-o", f"parted-{unit}"
    )
    assert found["n"] == count
    rows = read_lines(f"parted-{unit}/predictions.jsonl")
    assert rows[0]["text"] == {"line": texts[0], "block": "\n".join(texts[:3])}.get(
        unit, "\n".join([*texts[:3], "", *texts[3:5], "", "", texts[5]])
    )


@pytest.mark.parametrize("unit", ["line", "block", "file"])
def test_a_run_trains_on_documents_of_its_unit(here: Path, run_json: RunJson, tiny_mlm: str, unit: str) -> None:
    Path("units").mkdir(exist_ok=True)
    for i in range(12):
        Path(f"units/{i}.txt").write_text("\n\n".join(make_sentences(3, seed=i)), encoding="utf-8")
    keys = [f"data.document_unit={unit}", "train.max_steps=1", *FAST]
    run_json("pretrain-mlm", "--train", "units", "--model", tiny_mlm, "-o", f"units-{unit}", *keys, "--json")
    rows = read_json(f"units-{unit}/run.json")["rows"]
    assert sum(rows.values()) == (12 if unit == "file" else 36)
    assert run_json("eval", f"units-{unit}", "--json") == [read_json(f"units-{unit}/metrics.json")]


def test_a_named_column_is_kept(here: Path, run_json: RunJson, tiny_mlm: str) -> None:
    write_jsonl("body.jsonl", [{"id": str(i), "body": text} for i, text in enumerate(make_sentences(40))])
    words = ["pretrain-mlm", "--train", "body.jsonl", "--text", "body", "--model", tiny_mlm]
    run_json(*words, "-o", "body", "train.max_steps=1", *FAST, "--json")
    assert "  columns:\n    text: body\n" in Path("body/recipe.yaml").read_text(encoding="utf-8")
    assert run_json("eval", "body", "--json") == [read_json("body/metrics.json")]


def test_two_runs_are_compared_on_the_same_masks(here: Path, run_json: RunJson, tiny_mlm: str) -> None:
    """Also if they read rows of other lengths, and if the other one is a plain folder."""
    words = ["--model", tiny_mlm, "-o", "short", "train.max_steps=2", "model.max_length=16"]
    run_json("pretrain-mlm", "--train", "c.txt", *words, "--json")
    for others in (["short"], ["on/model"], [tiny_mlm]):
        folder = f"compared-{others[0].replace('/', '-')[-8:]}"
        (found,) = run_json("eval", "on", *others, "--data", "c.txt", *ALL, "--json", "-o", folder)
        assert len(found["models"]) == 2
        files = sorted(Path(folder).glob("*/predictions.jsonl"))
        assert len(files) == 2
        one, two = (read_lines(file) for file in files)
        counts = [[(row["text"], row["sums"]["masked"], row["sums"]["tokens"]) for row in rows] for rows in (one, two)]
        assert counts[0] == counts[1]
        (difference,) = found["differences"]
        for name, score in difference["metrics"].items():
            gap = found["models"][1]["metrics"][name]["value"] - found["models"][0]["metrics"][name]["value"]
            assert score["value"] == pytest.approx(gap, abs=1e-9)
    same = [row["sums"] for row in read_lines(files[0])] == [row["sums"] for row in read_lines(files[1])]
    assert not same


def test_models_with_other_tokenizers_are_not_compared(here: Path, run_failing: Callable[..., str]) -> None:
    assert run_failing(65, "eval", "on", "fresh", "--data", "c.txt", "-o", "never") == (
        "error: fresh has another tokenizer than on: losses per token of two vocabularies are not comparable; "
        "compare models with one tokenizer, or each with its own unigram baseline"
    )
    assert not Path("never").exists()


def test_a_plain_folder_is_scored_with_the_unigrams_of_the_texts(
    here: Path, run_json: RunJson, tiny_mlm: str, run_failing: Callable[..., str]
) -> None:
    (found,) = run_json("eval", tiny_mlm, "--data", "other.txt", "--json")
    assert (found["task"], list(found["baselines"])) == ("mlm", ["unigram of these"])
    assert run_failing(64, "eval", tiny_mlm) == (
        f"error: {tiny_mlm}: not a run, so it has no rows of its own; name the rows with --data FILE"
    )


def test_several_masks_from_stdin_and_a_file(here: Path, run_json: RunJson, monkeypatch: pytest.MonkeyPatch) -> None:
    (two,) = run_json("predict", "on", "ka [MASK] to [MASK]")
    assert [len(one) for one in two["masks"]] == [5, 5]
    whole = "ka {} to {}".format(*(next(iter(one)) for one in two["masks"]))
    assert two["prediction"] == whole.replace(" ##", "")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ka [MASK]\n\n[MASK] to\n")))
    streamed = run_json("predict", "on")
    assert [one["text"] for one in streamed] == ["ka [MASK]", "[MASK] to"]
    write_jsonl("masks.jsonl", [{"text": one["text"], "id": i} for i, one in enumerate(streamed)])
    filed = run_json("predict", "on", "--data", "masks.jsonl")
    assert [(one["id"], one["prediction"]) for one in filed] == [
        (i, one["prediction"]) for i, one in enumerate(streamed)
    ]
    write_lines("masks.txt", [one["text"] for one in streamed])
    assert run_json("predict", "on", "--data", "masks.txt") == streamed
    (alone,) = llmkit.predict("on", "ka [MASK]")
    assert alone["probabilities"] == pytest.approx(streamed[0]["probabilities"], abs=1e-6)


def test_a_terminal_shows_the_candidates_of_each_mask(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "200")
    for text in ("ka [MASK] .", "[MASK] [MASK]"):
        assert cli.run_command_line(["predict", "on", text]) == 0
        row = capsys.readouterr().out.splitlines()[-1]
        (record,) = llmkit.predict("on", text)
        masks = record.get("masks", [record.get("probabilities")])
        assert " | ".join(", ".join(f"{word} {p:.3f}" for word, p in one.items()) for one in masks) in row


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["ka to"], "error: texts: row 1: no [MASK] in the text; write [MASK] where a word is to be filled in; to score texts use `llmkit eval`"),
        (["[MASK]", "ka " * 80 + "[MASK]"],
         "error: texts: row 2: a [MASK] is beyond the 64 tokens that the model reads; give a shorter text"),
    ],
)  # fmt: skip
def test_a_text_whose_mask_cannot_be_filled(
    here: Path, run_failing: Callable[..., str], texts: list[str], message: str
) -> None:
    assert run_failing(65, "predict", "on", *texts) == message


@pytest.mark.parametrize("run", ["fresh", "on"])
def test_a_pretrained_encoder_is_fine_tuned_for_a_task(here: Path, run_json: RunJson, run: str) -> None:
    data = write_jsonl("labeled.jsonl", make_reviews(40))
    words = ["finetune-classify", "--train", data, "--model", run, "-o", f"{run}-classify", "train.max_steps=2"]
    (metrics,) = run_json(*words, "--json")
    assert (metrics["task"], metrics["labels"]) == ("classify", ["bad", "good"])
    body = torch.nn.utils.parameters_to_vector(AutoModelForMaskedLM.from_pretrained(f"{run}/model").bert.parameters())
    assert read_json(f"{run}-classify/run.json")["model"]["name"] == run
    assert body.isfinite().all()
    assert run_json("eval", f"{run}-classify", "--json") == [read_json(f"{run}-classify/metrics.json")]


def test_whole_chinese_words_of_a_list_are_masked_together(here: Path, run_json: RunJson) -> None:
    texts = [f"却说那唐僧忧愁{text}" for text in make_sentences(60, chinese=True)]
    write_lines("zh.txt", texts)
    write_lines("words.txt", ["唐僧", "忧愁", "却说"])
    run_json("tokenizer", "train", "zh.txt", "--vocab-size", "44", "-o", "zh-tok", "--json")
    words = ["pretrain-mlm", "--train", "zh.txt", "--from-config", "bert-tiny", "--tokenizer", "zh-tok"]
    keys = ["mlm.whole_words=true", "mlm.word_segmenter=words.txt", "train.max_steps=2"]
    run_json(*words, *keys, "-o", "zh", "--json")
    saved = load_saved_model("zh")
    assert saved.recipe is not None
    train = read_splits(saved.recipe.data, saved.task).train
    features = saved.task.encode_train(train, saved.tokenizer, 64).features
    for number in range(len(features)):
        for piece in saved.task.augment(features[number], (1, 0, number)):
            masked = (piece["labels"] != -100).tolist()
            # [CLS] 却说 那 唐僧 忧愁 ...
            assert (masked[1], masked[4], masked[6]) == (masked[2], masked[5], masked[7])
    (record,) = run_json("predict", "zh", "却说那[MASK]僧")
    assert len(record["probabilities"]) == 5
    assert record["prediction"][3:-1] == next(iter(record["probabilities"]))


def test_a_mask_has_the_same_spelling_for_every_tokenizer(here: Path, run_json: RunJson) -> None:
    make_tiny_model("angle", "roberta", auto_class="AutoModelForMaskedLM")
    tokenizer = AutoTokenizer.from_pretrained("angle")
    tokenizer.add_special_tokens({"mask_token": "<mask>"})
    tokenizer.save_pretrained("angle")
    model = AutoModelForMaskedLM.from_pretrained("angle")
    model.resize_token_embeddings(len(tokenizer))
    model.save_pretrained("angle")
    one, other = run_json("predict", "angle", "the [MASK] film", "the <mask> film")
    assert one["probabilities"] == other["probabilities"]
    assert one["prediction"] == other["prediction"]


def test_a_vocabulary_larger_than_the_corpus_is_reported(
    here: Path, capsys: pytest.CaptureFixture[str], tiny_mlm: str
) -> None:
    write_lines("small.txt", [f"{word} film" for word in ("a", "the", "very", "warm", "funny", "fine")] * 4)
    keys = ["data.split.validation=0", "data.split.test=0", "train.max_steps=1"]
    words = ["pretrain-mlm", "--train", "small.txt", *keys]
    assert cli.run_command_line([*words, "--from-config", "bert-tiny", "--tokenizer", tiny_mlm, "-o", "sparse"]) == 0
    pieces = len(AutoTokenizer.from_pretrained(tiny_mlm)) - 5
    message = f"the training rows use 7 of the tokenizer's {pieces:,} tokens: "
    fix = "a tokenizer with a smaller --vocab-size wastes fewer weights"
    assert message + fix in capsys.readouterr().err.splitlines()
    assert cli.run_command_line([*words, "--model", tiny_mlm, "-o", "kept"]) == 0
    assert "pieces" not in capsys.readouterr().err


def test_a_tokenizer_that_differs_from_the_models_is_reported(
    here: Path, capsys: pytest.CaptureFixture[str], tiny_mlm: str
) -> None:
    words = ["pretrain-mlm", "--train", "c.txt", "--model", tiny_mlm, "train.max_steps=1"]
    own, other = (AutoTokenizer.from_pretrained(one).get_vocab() for one in (tiny_mlm, "tok"))
    others = sum(own.get(word) != number for word, number in other.items())
    assert 0 < others < len(other)
    assert cli.run_command_line([*words, "--tokenizer", "tok", "-o", "swapped"]) == 0
    message = f"tok: {others:,} of its {len(other):,} tokens differ from those of {tiny_mlm}, "
    fix = "whose embeddings they get; model.from_config starts with newly initialized weights"
    assert message + fix in capsys.readouterr().err.splitlines()
    assert cli.run_command_line([*words, "--tokenizer", "on", "-o", "unswapped"]) == 0
    assert "pieces" not in capsys.readouterr().err


def test_label_options_are_rejected_for_a_model_without_labels(here: Path, run_failing: Callable[..., str]) -> None:
    assert run_failing(64, "eval", "on", "--data", "c.txt", "--label", "x") == (
        "error: --label x: the model reads only texts; leave it out"
    )
    assert run_failing(64, "eval", "on", "--data", "c.txt", "--label-map", "a=b") == (
        "error: --label-map: the model has no labels; leave it out"
    )


def test_keys_without_effect_are_reported(here: Path, capsys: pytest.CaptureFixture[str], tiny_mlm: str) -> None:
    words = ["pretrain-mlm", "--train", "c.txt", "--model", tiny_mlm, "-o", "noted", "train.max_steps=1"]
    assert cli.run_command_line([*words, "data.on_leak=drop", "eval.per_label=true"]) == 0
    messages = capsys.readouterr().err.splitlines()
    assert "data.on_leak=drop has no effect: equal documents of a corpus do not count as leaks" in messages
    assert "no scores by label: the model has no labels" in messages


SCRATCH = ["--from-config", "bert-tiny", "--tokenizer"]
WRONG = {
    "an empty corpus": (65, ["--train", "empty.txt", "--model", "m"],
        "empty.txt: no text in it; name a file with texts"),
    "blank lines": (65, ["--train", "blank.txt", "--model", "m"], "blank.txt: no text in it; name a file with texts"),
    "one line": (65, ["--train", "one.txt", "--model", "m"],
        "one.txt: 1 different text is too few to split off validation (10 %) and test (10 %); give more rows, or name files with data.validation and data.test"),
    "nothing that the tokenizer knows": (65, ["--train", "unknown.txt", "--model", "m"],
        "unknown.txt: the tokenizer does not know 100% of the tokens; use a model of this language, or train from scratch with --from-config and your own tokenizer"),
    "no mask token": (65, ["--train", "c.txt", "--model", "maskless"],
        "maskless: its tokenizer has no mask token; name a model whose tokenizer has one (masked language models do)"),
    "a tokenizer without a mask token": (65, ["--train", "c.txt", *SCRATCH, "maskless"],
        "maskless: it has no mask token; name another, or make one with `llmkit tokenizer train`"),
    "rows that are too long": (65, ["--train", "c.txt", "--model", "m", "model.max_length=500"],
        "m: model.max_length 500 exceeds its 130 positions; set model.max_length=130"),
    "a shape that is too short": (65, ["--train", "c.txt", *SCRATCH, "m", "model.config.max_position_embeddings=64"],
        "bert-tiny: model.max_length 128 exceeds its 64 positions; set model.max_length=64"),
    "no room for text": (65, ["--train", "c.txt", *SCRATCH, "m", "model.max_length=2"],
        "bert-tiny: model.max_length 2 leaves no room for text; set it to 3 or more"),
    "a shape without a tokenizer": (78, ["--train", "c.txt", "--from-config", "bert-tiny"],
        "--from-config: model.from_config: needs model.tokenizer: a model from scratch has none; name one, `llmkit tokenizer train` makes it"),
    "a shape and a model": (78, ["--train", "c.txt", *SCRATCH, "m", "--model", "m"],
        "--from-config: model.from_config: train from scratch, or from the weights of model.name; leave one out"),
    "no such shape": (78, ["--train", "c.txt", "--from-config", "bert-tinny", "--tokenizer", "m"],
        "model.from_config: no size 'bert-tinny'; did you mean 'bert-tiny'?"),
    "no such tokenizer folder": (66, ["--train", "c.txt", *SCRATCH, "tok/"],
        "tok/: no such folder; name a tokenizer folder, a Hub id or pkg://PACKAGE/PATH"),
    "no tokenizer in the folder": (65, ["--train", "c.txt", *SCRATCH, "bare"],
        "bare: not a tokenizer folder: no tokenizer.json (it holds readme); name the folder that has one"),
    "a file for a tokenizer": (65, ["--train", "c.txt", *SCRATCH, "m/tokenizer.json"],
        "m/tokenizer.json: a file, not a tokenizer folder; name the folder that holds tokenizer.json"),
    "the words of another task": (78, ["--train", "c.txt", "--model", "m", "data.columns.label=x"],
        "command line: data.columns.label: mlm has no such column; known: text"),
    "the section of another task": (78, ["--train", "c.txt", "--model", "m", "classify.kind=multi"],
        "command line: classify: the section of another task; this recipe trains 'mlm': write mlm, or leave it out"),
    "the scores of another task": (78, ["--train", "c.txt", "--model", "m", "eval.metrics=[macro_f1]"],
        "command line: eval.metrics: unknown metric 'macro_f1'; known: loss, perplexity, masked_accuracy, pseudo_perplexity"),
    "no words for whole words": (66, ["--train", "c.txt", "--model", "m", "mlm.whole_words=true", "mlm.word_segmenter=w.txt"],
        "mlm.word_segmenter: w.txt: cannot be read: No such file or directory; name jieba, or a UTF-8 file with one word per line"),
    "labels for a corpus": (65, ["--model", "m", "data.train={good: c.txt}"],
        "a corpus cannot be a mapping of label to file; write a list of files"),
}  # fmt: skip


@pytest.fixture
def mistakes(tiny_mlm: str, own_folder: Path) -> None:
    """The files that the wrong commands name."""
    shutil.copytree(tiny_mlm, "m")
    shutil.copytree(tiny_mlm, "maskless")
    about = read_json("maskless/tokenizer_config.json")
    del about["mask_token"]
    Path("maskless/tokenizer_config.json").write_text(json.dumps(about), encoding="utf-8")
    Path("bare").mkdir()
    files = {"empty.txt": "", "blank.txt": "\n \n\n", "one.txt": "ka to ri\n", "bare/readme": "nothing",
             "unknown.txt": "".join(f"却说{one}\n" for one in "唐僧忧愁随着国王至后宫")}  # fmt: skip
    for name, text in files.items():
        Path(name).write_text(text, encoding="utf-8")
    write_lines("c.txt", make_sentences(40))


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_reported_before_training(
    case: str, mistakes: None, own_folder: Path, run_failing: Callable[..., str]
) -> None:
    code, words, message = WRONG[case]
    before = sorted(own_folder.rglob("*"))
    assert run_failing(code, "pretrain-mlm", *words, "-o", "run") == f"error: {message}"
    assert sorted(own_folder.rglob("*")) == before


def test_a_missing_tokenizer_is_reported_with_its_flag(mistakes: None, run_failing: Callable[..., str]) -> None:
    message = run_failing(69, "pretrain-mlm", "--train", "c.txt", *SCRATCH, "nowhere", "-o", "run")
    assert message.startswith("error: nowhere: no such local folder, and fetching it from the Hub failed: ")
    assert message.endswith("; HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --tokenizer")


def test_one_line_is_enough_without_a_holdout(mistakes: None, run_json: RunJson) -> None:
    keys = ["data.split.validation=0", "data.split.test=0", "train.max_steps=2"]
    (record,) = run_json("pretrain-mlm", "--train", "one.txt", "--model", "m", "-o", "run", *keys, "--json")
    assert record == {"run": "run"}
    assert len(run_json("predict", "run", "ka [MASK] ri")[0]["probabilities"]) == 5


def test_all_kinds_of_tokenizers_work_end_to_end(own_folder: Path, run_json: RunJson) -> None:
    """BPE and unigram, with whole words; two of their tokens may have the same text."""
    write_lines("c.txt", make_sentences(150))
    for kind, size in (("bpe", "320"), ("unigram", "80")):
        run_json("tokenizer", "train", "c.txt", "--kind", kind, "--vocab-size", size, "-o", kind, "--json")
        words = ["--from-config", "roberta-tiny", "--tokenizer", kind, "-o", f"run-{kind}", "mlm.whole_words=true"]
        run_json("pretrain-mlm", "--train", "c.txt", *words, "train.max_steps=2", "--json")
        (record,) = run_json("predict", f"run-{kind}", "ka [MASK] to")
        assert len(record["probabilities"]) == 5
