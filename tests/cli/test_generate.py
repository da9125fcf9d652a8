"""Summaries and translations as typed: trained from three beginnings, scored, asked, and refused in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmkit import cli
from llmkit.testing import articles, tiny_model, write_jsonl, write_lines

FAST = ["train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "model.max_length=64",
        "summarize.max_target_length=12", "eval.metrics=[rougeL]", "train.max_steps=2"]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, tiny models and a run of each beginning."""
    folder = tmp_path_factory.mktemp("generate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_jsonl("a.jsonl", articles(30))
        for family in ("t5", "bert", "distilbert"):
            tiny_model(family, family)
        tiny_model("other", "bert", texts=["stranger"])
        tiny_model("classifier", "bert", auto_class="AutoModelForSequenceClassification")
        made = ["finetune-summarize", "--train", "a.jsonl", *FAST]
        assert cli.run([*made, "--model", "t5", "-o", "warm"]) == 0
        assert cli.run([*made, "--encoder", "bert", "--decoder", "bert", "-o", "joined"]) == 0
        for shape in ("t5-tiny", "bart-tiny"):
            assert cli.run([*made, "--from-config", shape, "--tokenizer", "bert", "-o", shape]) == 0
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


RUNS = ["warm", "joined", "t5-tiny", "bart-tiny"]


@pytest.mark.parametrize("run", RUNS)
def test_a_run_is_a_plain_folder_that_answers_the_same(
    here: Path, run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    said = []
    for name in (run, f"{run}/model"):
        assert cli.run(["predict", name, "the film was dull 7", "a story 2"]) == 0
        said.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert said[0] == said[1]
    assert [set(one) for one in said[0]] == [{"text", "answer"}] * 2
    assert json.loads(Path(run, "model/generation_config.json").read_text("utf-8"))["max_length"] == 13


def test_every_row_of_predictions_holds_its_references(here: Path) -> None:
    rows = [json.loads(line) for line in Path("warm/predictions.jsonl").read_text("utf-8").splitlines()]
    assert all(row["reference"] == [row["summary"]] and isinstance(row["answer"], str) for row in rows)


def test_two_runs_are_compared_and_eval_repeats_the_scores(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["eval", "warm", "joined", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    own = json.loads(Path("warm/metrics.json").read_text("utf-8"))
    assert found["models"][0]["metrics"] == own["metrics"]
    assert set(found["differences"][0]["metrics"]) == {"rougeL"}
    assert set(own["baselines"]) == {"lead1", "lead3", "first_sentence"}


def test_a_dry_run_says_what_it_takes_and_keeps_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune-summarize", "--train", "a.jsonl", "--model", "t5", "-o", "dry", "--dry-run", "--json", *FAST]
    assert cli.run(words) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert not Path("dry").exists()


def test_some_validation_rows_are_scored_while_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune-summarize", "--train", "a.jsonl", "--validation", "a.jsonl", "--model", "t5", "-o", "some",
             "data.on_leak=ignore", "eval.validation_rows=5", *FAST]  # fmt: skip
    assert cli.run(words) == 0
    assert json.loads(Path("some/metrics.json").read_text("utf-8"))["n"] == 30
    capsys.readouterr()


def test_on_a_terminal_an_answer_stands_whole_below_its_text(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.console.on_terminal", lambda: True)
    assert cli.run(["predict", "warm", "the film " * 20]) == 0
    read, said = capsys.readouterr().out.splitlines()[:2]
    assert read == f"> {('the film ' * 20)[:70].rstrip()} ..."
    assert said


JOIN = "join two with --encoder bert --decoder bert, or name an encoder-decoder, such as google-t5/t5-small or "
REFUSED: dict[str, tuple[list[str], str]] = {
    "encoder": (
        ["--model", "bert"],
        f"bert: a 'bert' encoder reads, and cannot write an answer; {JOIN}facebook/bart-base",
    ),
    "half": (["--encoder", "bert"], "--encoder: model.encoder: needs model.decoder; the same model may be both"),
    "both": (
        ["--encoder", "bert", "--decoder", "bert", "--model", "t5"],
        "--encoder: model.encoder: two encoders as one model, or another; leave one out",
    ),
    "words": (
        ["--encoder", "bert", "--decoder", "other"],
        "bert and other: their tokenizers differ; name two models of one tokenizer, such as the same one twice",
    ),
    "no decoder": (
        ["--encoder", "bert", "--decoder", "distilbert"],
        ("distilbert: a 'distilbert' model cannot be a decoder beside an encoder; name a BERT or RoBERTa with "
        "--decoder; the encoder may be another"),
    ),
    "column": (
        ["--model", "t5", "--summary", "gist"],
        ("a.jsonl: no column 'gist'; columns: text, summary; map it with data.columns.summary=COLUMN or --summary "
        "COLUMN"),
    ),
    "least": (
        ["--model", "t5", "summarize.min_length=99"],
        "command line: summarize.min_length: 99 is more than the 12 tokens that an answer may have; lower it",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_is_said_and_leaves_nothing(here: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    words, sentence = REFUSED[name]
    assert cli.run(["finetune-summarize", "--train", "a.jsonl", "-o", "no", *FAST, *words]) > 60
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {sentence}"
    assert not Path("no").exists()


def test_two_languages_are_named_by_their_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("pairs.jsonl", [{"en": row["text"], "zh": row["summary"]} for row in articles(24)])
    keys = ["translate.max_target_length=8", "train.max_steps=1"]
    words = ["finetune-translate", "--train", "pairs.jsonl", "--model", "t5", *keys]
    assert cli.run([*words, "-o", "no"]) == 65
    capsys.readouterr()
    assert cli.run([*words, "--source", "en", "--target", "zh", "-o", "pairs"]) == 0
    assert cli.run(["eval", "pairs", "--data", "pairs.jsonl", "--source", "en", "--target", "zh", "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]) == {"bleu", "chrf"}


def test_lines_of_stdin_are_summed_up(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = write_lines("lines.txt", ["the film was dull 7", "a story 2"])
    with Path(path).open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli.run(["predict", "warm"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_prefix_that_lost_its_quotes_is_told_how_to_keep_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["finetune-summarize", "--train", "a.jsonl", "summarize.prefix=summarize: "]) == 78
    assert capsys.readouterr().err == (
        "error: command line: summarize.prefix: {'summarize': None} is not text; "
        "quote it, in a shell '\"summarize: \"'\n"
    )
