"""Tests of summarization and translation by commands: three starting points, scoring, predicting, mistakes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llmkit import cli
from llmkit.inference.load_saved import load_saved_model
from llmkit.inference.predict import build_text_rows, predict_records
from llmkit.testing import make_articles, make_tiny_model, write_jsonl, write_lines

pytestmark = pytest.mark.slow

FAST = ["train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "model.max_length=64",
        "summarize.max_target_length=12", "eval.metrics=[rougeL]", "train.max_steps=2"]  # fmt: skip


def copy_without_tokens(model: str, folder: str, *lost: str) -> None:
    """Copy a model, without these special tokens of its tokenizer."""
    shutil.copytree(model, folder)
    path = Path(folder, "tokenizer_config.json")
    about = json.loads(path.read_text("utf-8"))
    path.write_text(json.dumps({k: v for k, v in about.items() if k not in {f"{one}_token" for one in lost}}), "utf-8")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, tiny models and a run from each starting point."""
    folder = tmp_path_factory.mktemp("generate")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        write_jsonl("a.jsonl", make_articles(30))
        for family in ("t5", "bert", "distilbert"):
            make_tiny_model(family, family)
        make_tiny_model("other", "bert", texts=["stranger"])
        shutil.copytree("bert", "decoder")
        Path("decoder/config.json").write_text('{"model_type": "gpt2"}', "utf-8")
        copy_without_tokens("t5", "endless", "eos", "sep")
        copy_without_tokens("t5", "padless", "pad")
        write_jsonl("blank.jsonl", [{"text": "a film", "summary": "fine"}, {"text": "a story", "summary": " "}])
        make_tiny_model("classifier", "bert", auto_class="AutoModelForSequenceClassification")
        made = ["finetune-summarize", "--train", "a.jsonl", *FAST]
        assert cli.run_command_line([*made, "--model", "t5", "-o", "warm"]) == 0
        assert cli.run_command_line([*made, "--encoder", "bert", "--decoder", "bert", "-o", "joined"]) == 0
        for shape in ("t5-tiny", "bart-tiny"):
            assert cli.run_command_line([*made, "--from-config", shape, "--tokenizer", "bert", "-o", shape]) == 0
    return folder


@pytest.fixture
def here(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(home)
    return home


RUNS = ["warm", "joined", "t5-tiny", "bart-tiny"]


@pytest.mark.parametrize("run", RUNS)
def test_the_model_folder_predicts_like_the_run(here: Path, run: str, capsys: pytest.CaptureFixture[str]) -> None:
    predictions = []
    for name in (run, f"{run}/model"):
        assert cli.run_command_line(["predict", name, "the film was dull 7", "a story 2"]) == 0
        predictions.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    assert predictions[0] == predictions[1]
    assert [set(one) for one in predictions[0]] == [{"text", "prediction"}] * 2
    assert json.loads(Path(run, "model/generation_config.json").read_text("utf-8"))["max_length"] == 13


def test_every_prediction_has_its_references(here: Path) -> None:
    rows = [json.loads(line) for line in Path("warm/predictions.jsonl").read_text("utf-8").splitlines()]
    assert all(row["reference"] == [row["summary"]] and isinstance(row["prediction"], str) for row in rows)


def test_two_runs_are_compared_and_eval_repeats_the_scores(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["eval", "warm", "joined", "--json"]) == 0
    comparison = json.loads(capsys.readouterr().out)
    own = json.loads(Path("warm/metrics.json").read_text("utf-8"))
    assert comparison["models"][0]["metrics"] == own["metrics"]
    assert set(comparison["differences"][0]["metrics"]) == {"rougeL"}
    assert set(own["baselines"]) == {"lead1", "lead3", "first_sentence"}


def test_a_dry_run_prints_an_estimate_and_keeps_nothing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune-summarize", "--train", "a.jsonl", "--model", "t5", "-o", "dry", "--dry-run", "--json", *FAST]
    assert cli.run_command_line(words) == 0
    assert json.loads(capsys.readouterr().out)["steps"] == 2
    assert not Path("dry").exists()


def test_some_validation_rows_are_scored_while_training(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune-summarize", "--train", "a.jsonl", "--validation", "a.jsonl", "--model", "t5", "-o", "some",
             "data.on_leak=ignore", "eval.max_validation_rows=5", *FAST]  # fmt: skip
    assert cli.run_command_line(words) == 0
    assert json.loads(Path("some/metrics.json").read_text("utf-8"))["n"] == 30
    capsys.readouterr()


def test_long_sources_are_split_into_chunks(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    long = [row | {"text": f"{row['text']}. " * 6} if i % 3 else row for i, row in enumerate(make_articles(30))]
    write_jsonl("long.jsonl", long)
    keys = [key for key in FAST if not key.startswith("model.")]
    words = ["finetune-summarize", "--train", "long.jsonl", "--validation", "long.jsonl", "--model", "t5", "-o",
             "pieces", "data.on_leak=ignore", "eval.max_validation_rows=7", "summarize.long_inputs=chunk", "model.max_length=16",
             *keys]  # fmt: skip
    assert cli.run_command_line(words) == 0
    metrics = json.loads(Path("pieces/metrics.json").read_text("utf-8"))
    assert metrics["n"] == 30
    capsys.readouterr()
    predictions = []
    for name in ("pieces", "pieces/model"):  # the option is stored in the folder
        assert cli.run_command_line(["predict", name, long[1]["text"], "a film"]) == 0
        predictions.append([json.loads(line)["prediction"] for line in capsys.readouterr().out.splitlines()])
        assert cli.run_command_line(["eval", name, "--data", "long.jsonl", "--json"]) == 0
        again = json.loads(capsys.readouterr().out)["metrics"]["rougeL"]["value"]
        assert again == pytest.approx(metrics["metrics"]["rougeL"]["value"])
    assert predictions[0] == predictions[1]
    rows = [json.loads(line) for line in Path("pieces/predictions.jsonl").read_text("utf-8").splitlines()]
    assert [row["summary"] for row in rows] == [row["summary"] for row in long]


def test_progress_counts_a_row_with_several_chunks_once(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved = replace(load_saved_model("t5"), max_length=16)
    saved.task.long = "chunk"  # type: ignore[attr-defined]
    rows = build_text_rows(saved, ["the film was dull. " * 12, "a film", "a story " * 20])
    counted: list[int] = []
    records = list(predict_records(saved, rows, 2, "fp32", counted.append))
    assert len(records) == 3
    assert sum(counted) == 3


def test_a_terminal_shows_each_generated_text_below_its_source(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    assert cli.run_command_line(["predict", "warm", "the film " * 20]) == 0
    source, generated = capsys.readouterr().out.splitlines()[:2]
    assert source == f"> {('the film ' * 20)[:70].rstrip()} ..."
    assert generated


JOIN = "join two with --encoder bert --decoder bert, or name an encoder-decoder, such as google-t5/t5-small or "
REFUSED: dict[str, tuple[list[str], str]] = {
    "encoder": (
        ["--model", "bert"],
        f"bert: a 'bert' encoder cannot generate text; {JOIN}facebook/bart-base",
    ),
    "decoder": (
        ["--model", "decoder"],
        ("decoder: a 'gpt2' decoder-only model, not an encoder-decoder; name an encoder-decoder, such as "
        "google-t5/t5-small or facebook/bart-base"),
    ),
    "no end": (
        ["--model", "endless"],
        ("the tokenizer has neither an eos nor a sep token; generated texts could not end; name a model or tokenizer that has "
        "them"),
    ),
    "no padding": (
        ["--model", "padless"],
        ("padless: its tokenizer has no pad token; name a model whose tokenizer has one (encoders do; many text "
        "generators do not)"),
    ),
    "empty target": (
        ["--model", "t5", "--train", "blank.jsonl"],
        "blank.jsonl:2: 'summary' is empty; write it, or leave such rows out with data.on_empty=skip",
    ),
    "half": (["--encoder", "bert"], "--encoder: model.encoder: needs model.decoder; the same model may be both"),
    "both": (
        ["--encoder", "bert", "--decoder", "bert", "--model", "t5"],
        "--encoder: model.encoder: with model.decoder it is a whole model, and so is model.name; leave one out",
    ),
    "words": (
        ["--encoder", "bert", "--decoder", "other"],
        "bert and other: their tokenizers differ; name two models with the same tokenizer, such as the same model twice",
    ),
    "no decoder": (
        ["--encoder", "bert", "--decoder", "distilbert"],
        ("distilbert: a 'distilbert' model cannot be the decoder of an encoder-decoder model; name a BERT or RoBERTa with "
        "--decoder; the encoder may be another"),
    ),
    "column": (
        ["--model", "t5", "--summary", "gist"],
        ("a.jsonl: no column 'gist'; columns: text, summary; map it with data.columns.summary=COLUMN or --summary "
        "COLUMN"),
    ),
    "least": (
        ["--model", "t5", "summarize.min_length=99"],
        "command line: summarize.min_length: 99 is more than the 12 tokens that a prediction may have; lower it",
    ),
}  # fmt: skip


CODES = {"half": 78, "both": 78, "least": 78}


@pytest.mark.parametrize("name", REFUSED)
def test_mistakes_are_reported_and_leave_nothing_behind(
    here: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words, message = REFUSED[name]
    code = CODES.get(name, 65)
    data = [] if "--train" in words else ["--train", "a.jsonl"]
    assert cli.run_command_line(["finetune-summarize", *data, "-o", "no", *FAST, *words]) == code
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {message}"
    assert not Path("no").exists()


def test_two_languages_are_given_by_their_columns(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("pairs.jsonl", [{"en": row["text"], "zh": row["summary"]} for row in make_articles(24)])
    keys = ["translate.max_target_length=8", "train.max_steps=1"]
    words = ["finetune-translate", "--train", "pairs.jsonl", "--model", "t5", *keys]
    assert cli.run_command_line([*words, "-o", "no"]) == 65
    capsys.readouterr()
    assert cli.run_command_line([*words, "--source", "en", "--target", "zh", "-o", "pairs"]) == 0
    assert (
        cli.run_command_line(["eval", "pairs", "--data", "pairs.jsonl", "--source", "en", "--target", "zh", "--json"])
        == 0
    )
    assert set(json.loads(capsys.readouterr().out.splitlines()[-1])["metrics"]) == {"bleu", "chrf"}


def test_lines_of_stdin_are_summarized(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    path = write_lines("lines.txt", ["the film was dull 7", "a story 2"])
    with Path(path).open(encoding="utf-8") as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli.run_command_line(["predict", "warm"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_prefix_without_quotes_gets_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["finetune-summarize", "--train", "a.jsonl", "summarize.prefix=summarize: "]) == 78
    assert capsys.readouterr().err == (
        "error: command line: summarize.prefix: {'summarize': None} is not text; "
        "quote it, in a shell '\"summarize: \"'\n"
    )
