"""Tests of typical mistakes of new users: each gets a message with the fix, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmkit import cli, tasks
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl


@pytest.fixture(autouse=True)
def write_files() -> None:
    write_jsonl("mine.jsonl", make_reviews(40))
    rows = [f"{row['text']},{row['label']}" for row in make_reviews(40)]
    Path("mine.csv").write_text("\n".join(["text,label", *rows]) + "\n", encoding="utf-8")
    Path("noheader.csv").write_text("\n".join(f"a very long text {'on ' * 20}{row}" for row in rows), encoding="utf-8")
    Path("book.xlsx").write_bytes(b"PK\x03\x04")
    Path("perlabel").mkdir()
    for label in ("good", "bad"):
        Path(f"perlabel/{label}.txt").write_text("one\ntwo\n", encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (["finetune-classify", "mine.csv"], 66, "mine.csv: data, not a recipe; write --train mine.csv"),
        (["train"], 78, f"command line: task: missing; write task: {' | '.join(tasks.list_tasks())}"),
        (["finetune-classify", "train.learning_rate", "3e-5"], 66,
         "train.learning_rate: no such recipe; a key is changed as train.learning_rate=VALUE, without spaces"),
        (["finetune-classify", "--learning-rate", "3e-5"], 64, "No such option: --learning-rate; write train.learning_rate=VALUE"),
        (["finetune-classify", "--lr", "3e-5"], 64, "No such option: --lr; write train.learning_rate=VALUE"),
        (["finetune-classify", "--seed", "3"], 64, "No such option: --seed; write train.seed=VALUE"),
        (["finetune-classify", "--batch-size", "8"], 64, "No such option: --batch-size; write train.batch_size=VALUE"),
        (["finetune-classify", "--modle", "m"], 64,
         "No such option: --modle (Possible options: --model); `llmkit COMMAND --help` shows how"),
        (["merge"], 64, "No such command 'merge'; `llmkit COMMAND --help` shows how"),
        (["finetune-classify", "--train", "mine.csv", "train.epochs=2"], 78,
         "command line: train.epochs: unknown key; did you mean 'num_train_epochs'?"),
        (["finetune-classify", "--train", "mine.csv", "eval.metrics=[f1]"], 78,
         "command line: eval.metrics: unknown metric 'f1'; did you mean 'macro_f1'?"),
        (["finetune-classify", "--train", "mine.csv", "--validation", "0.1"], 66,
         "0.1: no such file; to split off a share of train, set data.split.validation=0.1"),
        (["finetune-classify", "--train", "*.csv"], 66, "*.csv: no such file; patterns are not expanded: name a list, [a.csv, b.csv]"),
        (["finetune-classify", "--train", "book.xlsx"], 65, "book.xlsx: a spreadsheet; save it as CSV UTF-8"),
        (["finetune-classify", "--train", "mine.csv", "--text", "label", "--label", "label"], 65,
         "mine.csv: column 'label' is mapped to text and label; map one with data.columns.label=COLUMN or --label COLUMN"),
        (["finetune-classify", "--train", "mine.csv", "--text", "label", "--label", "text"], 65,
         "mine.csv: column 'text' holds 40 different labels in 40 rows; is it the label? data.columns.label=COLUMN or --label COLUMN names another"),
        (["finetune-classify", "--train", "perlabel"], 65,
         ("perlabel: not a data set folder (neither class folders of .txt nor save_to_disk): it holds bad.txt, good.txt; "
         "with one file per label write 'data.train={bad: perlabel/bad.txt, good: perlabel/good.txt}'")),
        (["predict", "some text to predict for"], 66, "'some text to predict for': neither a folder nor a Hub id; the model comes first: MODEL, then texts"),
    ],
)  # fmt: skip
def test_near_misses(words: list[str], code: int, sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(Path().rglob("*"))
    assert cli.run_command_line(words) == code
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {sentence}"
    assert sorted(Path().rglob("*")) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        (["finetune-classify", "--train", "mine.csv", "--model", "lsmt"],
         "did you mean 'lstm'? HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --model"),
        (["finetune-classify", "--train", "mine.csv", "--model", "nope"],
         "HF_HUB_OFFLINE=1 is set: unset it, or name a local folder with --model"),
        (["predict", "lsmt", "x"], "HF_HUB_OFFLINE=1 is set: unset it, or name a local folder"),
        (["eval", "nope", "--data", "mine.csv"], "HF_HUB_OFFLINE=1 is set: unset it, or name a local folder"),
    ],
)  # fmt: skip
def test_a_name_unknown_to_the_hub(arguments: list[str], fix: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(arguments) == 69
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.endswith(f"; {fix}")


def test_a_missing_header_is_suspected(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["finetune-classify", "--train", "noheader.csv"]) == 65
    assert " (the first row is read as the header); " in capsys.readouterr().err


def test_the_examples_of_commands_fit_in_80_columns() -> None:
    from llmkit.cli import train

    every = [getattr(train, name).__doc__ for name in vars(train) if name.startswith(("finetune_", "pretrain_"))]
    examples = [line.strip() for about in every for line in about.splitlines() if line.strip().startswith("llmkit ")]
    assert len(examples) == 9
    assert [line for line in examples if len(line) > 76] == []


@pytest.mark.parametrize("words", [[], ["recipes"]])
def test_without_arguments_the_help_is_printed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(words) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("Usage: llmkit")
    assert captured.err == ""


@pytest.mark.slow
def test_a_language_unknown_to_the_tokenizer_is_reported(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": f"我喜欢看电影 {row['text']}", "label": row["label"]} for row in make_reviews(40)]
    words = ["finetune-classify", "--train", write_jsonl("zh.jsonl", rows), "--model", tiny, "train.max_steps=1"]
    assert cli.run_command_line([*words, "train.eval_strategy=no"]) == 0
    errors = capsys.readouterr().err
    assert "% of the tokens: choose a model of this language with --model\n" in errors
    assert (
        cli.run_command_line(
            [
                "finetune-classify",
                "--train",
                "mine.jsonl",
                "--model",
                tiny,
                "train.max_steps=1",
                "train.eval_strategy=no",
            ]
        )
        == 0
    )
    assert "does not know" not in capsys.readouterr().err


@pytest.mark.slow
def test_a_run_that_does_not_beat_its_baselines_names_them(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["finetune-classify", "--train", "mine.jsonl", "--model", tiny, "train.learning_rate=1e-9", "--epochs", "1"]
    assert cli.run_command_line(words) == 0
    assert (
        "this run does not beat majority class nor TF-IDF + logistic regression in accuracy: "
        in capsys.readouterr().out
    )


def test_rows_with_few_of_the_labels_are_reported(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    only = write_jsonl("only.jsonl", [row for row in make_reviews(12) if row["label"] == "good"][:3])
    assert cli.run_command_line(["eval", str(finished), "--data", only]) == 0
    errors = capsys.readouterr().err
    assert "these rows have 1 of the 2 labels: a prediction of another label is always wrong\n" in errors
    assert "1 of 1 label has fewer than 5 rows: interpret macro scores with care\n" in errors


def test_guessed_columns_are_printed_by_eval_too(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = write_jsonl("other.jsonl", [{"headline": row["text"], "section": row["label"]} for row in make_reviews(12)])
    assert cli.run_command_line(["eval", str(finished), "--data", other]) == 0
    assert (
        "columns: text = headline, label = section (guessed; change with --text and --label)\n"
        in capsys.readouterr().err
    )


def test_a_text_that_names_a_file_is_reported(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run_command_line(["predict", str(finished), "mine.csv"]) == 0
    assert capsys.readouterr().err == "'mine.csv' is used as a text; --data mine.csv reads the file\n"


@pytest.mark.slow
def test_a_run_with_short_texts_can_be_trained_on_longer_ones(tiny: str, capsys: pytest.CaptureFixture[str]) -> None:
    first = ["finetune-classify", "--train", "mine.jsonl", "train.max_steps=1", "train.eval_strategy=no"]
    assert cli.run_command_line([*first, "--model", tiny, "model.max_length=16", "-o", "short"]) == 0
    assert cli.run_command_line([*first, "--model", "short", "model.max_length=128", "-o", "long"]) == 0
    assert "max_length" not in capsys.readouterr().err.split("parameters")[-1]


def test_a_model_that_reads_no_text_is_rejected(capsys: pytest.CaptureFixture[str]) -> None:
    import json

    folder = Path(make_tiny_model("vision"))
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}), encoding="utf-8")
    assert cli.run_command_line(["finetune-classify", "--train", "mine.jsonl", "--model", "vision"]) == 65
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: vision: a 'vit' model cannot do this task (no AutoModelForSequenceClassification for it); "
        "name an encoder such as google-bert/bert-base-uncased"
    )
