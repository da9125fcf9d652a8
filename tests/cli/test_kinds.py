"""Labels, numbers and pairs as whole commands: trained, scored, asked, and loaded without llmkit."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import llmkit
from llmkit import cli
from llmkit.errors import UsageError
from llmkit.metrics import regression
from llmkit.metrics.classification import multilabel, probabilities, single_label
from llmkit.tasks.problem_types.multi import tune_label_thresholds
from llmkit.testing import make_reviews, write_jsonl

FAST = ["train.learning_rate=6e-3", "train.per_device_train_batch_size=8", "train.num_train_epochs=6"]
KNOWN = {
    "multi": multilabel.MULTILABEL_METRICS,
    "csv": multilabel.MULTILABEL_METRICS,
    "regression": regression.REGRESSION_METRICS,
    "pairs": single_label.CLASSIFICATION_METRICS + probabilities.PROBABILITY_METRICS,
}
KINDS = {"multi": "multi", "csv": "multi", "regression": "regression", "pairs": "single"}
MORE = {
    "multi": ["classify.thresholds=each", "data.split.validation=0.3", "train.num_train_epochs=14"],
    "csv": ['classify.separator="; "', "classify.class_weights=balanced"],
}


def written(kind: str, rows: int, seed: int = 0) -> Path:
    """A file of reviews that are answered with labels, with a number, or for both of two texts."""
    made = make_reviews(rows, seed)
    sets = [[row["label"], *(["long"] if len(row["text"]) > 40 else [])] if i % 7 else [] for i, row in enumerate(made)]
    if kind == "multi":
        return Path(write_jsonl("rows.jsonl", [row | {"label": some} for row, some in zip(made, sets, strict=True)]))
    if kind == "pairs":
        return Path(write_jsonl("rows.jsonl", [row | {"text_pair": " ".join(row["text"].split()[:3])} for row in made]))
    cells = ["; ".join(some) for some in sets]
    if kind == "regression":
        cells = [f"{(40 if row['label'] == 'good' else 10) + i % 5}.5" for i, row in enumerate(made)]
    lines = ["text,stars", *(f"{row['text']},{cell}" for row, cell in zip(made, cells, strict=True))]
    Path("rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path("rows.csv")


@pytest.fixture(scope="module")
def runs(tiny: str, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A finished run of each kind beside its rows, made when it is first asked for."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            home = tmp_path_factory.mktemp(kind)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(home)
                keys = [*FAST, *MORE.get(kind, []), f"classify.kind={KINDS[kind]}"]
                keys.append(f"eval.metrics=[{', '.join(KNOWN[kind])}]")
                words = ["--train", str(written(kind, 90)), "--model", tiny, "-o", "run"]
                assert cli.run_command_line(["finetune-classify", *words, *keys]) == 0
            made[kind] = home / "run"
        return made[kind]

    return get


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def loaded(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def scored_again(kind: str, rows: list[dict[str, Any]], labels: list[str]) -> dict[str, Any]:
    """Every known metric from what predictions.jsonl holds, and nothing else."""
    references, answers = [row["reference"] for row in rows], [row["answer"] for row in rows]
    if kind == "regression":
        return regression.score_regression(regression.REGRESSION_METRICS, references, answers)
    chances = np.array([[row["probabilities"][label] for label in labels] for row in rows])
    if kind == "pairs":
        scores = single_label.score_classification(single_label.CLASSIFICATION_METRICS, references, answers, labels)
        return scores | probabilities.score_probabilities(
            probabilities.PROBABILITY_METRICS, references, chances, labels
        )
    return multilabel.score_multilabel(multilabel.MULTILABEL_METRICS, references, answers, labels, chances)


@pytest.mark.parametrize("kind", KNOWN)
def test_every_score_follows_from_the_predictions(runs: Callable[[str], Path], kind: str) -> None:
    run = runs(kind)
    metrics = loaded(run / "metrics.json")
    again = scored_again(kind, lines(run / "predictions.jsonl"), metrics["labels"])
    assert list(metrics["metrics"]) == list(KNOWN[kind])
    for name, score in metrics["metrics"].items():
        expected = again[name].as_dict()
        for key in ("value", "low", "high"):
            assert score[key] == pytest.approx(expected[key], rel=0, abs=1e-9, nan_ok=True), (name, key)
        assert score["signature"] == expected["signature"]


@pytest.mark.parametrize("kind", KNOWN)
def test_eval_gives_the_numbers_of_the_run(
    runs: Callable[[str], Path], kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runs(kind).parent)
    assert cli.run_command_line(["eval", "run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == loaded(Path("run/metrics.json"))


@pytest.mark.parametrize(
    ("kind", "baselines"),
    [("multi", {"majority", "tfidf"}), ("regression", {"mean", "tfidf"}), ("pairs", {"majority", "tfidf"})],
)
def test_baselines_stand_beside_the_scores(runs: Callable[[str], Path], kind: str, baselines: set[str]) -> None:
    metrics = loaded(runs(kind) / "metrics.json")
    assert set(metrics["baselines"]) == baselines
    assert all(list(scores) == list(KNOWN[kind]) for scores in metrics["baselines"].values())


def test_a_tiny_model_learns_labels_and_numbers(runs: Callable[[str], Path]) -> None:
    assert loaded(runs("multi") / "metrics.json")["metrics"]["micro_f1"]["value"] > 0.75
    numbers = loaded(runs("regression") / "metrics.json")
    assert numbers["metrics"]["pearson"]["value"] > 0.8
    assert numbers["metrics"]["rmse"]["value"] < numbers["baselines"]["mean"]["rmse"]["value"]


@pytest.mark.parametrize("kind", ["multi", "csv"])
def test_answers_are_the_labels_from_their_thresholds_on(runs: Callable[[str], Path], kind: str) -> None:
    config = loaded(runs(kind) / "model/config.json")
    labels = [config["id2label"][str(i)] for i in range(3)]
    assert labels == ["bad", "good", "long"]
    assert config["problem_type"] == "multi_label_classification"
    lowest = dict(zip(labels, config["thresholds"], strict=True))
    assert (len(set(lowest.values())) == 1) == (kind == "csv")
    for row in lines(runs(kind) / "predictions.jsonl"):
        assert row["answer"] == [label for label, p in row["probabilities"].items() if p >= lowest[label]]


@pytest.mark.parametrize("kind", ["multi", "csv"])
def test_thresholds_are_those_of_the_saved_model_on_validation(
    runs: Callable[[str], Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights come from the best evaluation, not from the last: so must their thresholds."""
    run = runs(kind)
    monkeypatch.chdir(run.parent)
    found = validation_of(run)
    labels = ["bad", "good", "long"]
    chances = np.array([[row["probabilities"][label] for label in labels] for row in found])
    truth = np.array([[label in row["reference"] for label in labels] for row in found])
    assert loaded(run / "model/config.json")["thresholds"] == tune_label_thresholds(truth, chances, kind == "multi")


def validation_of(run: Path) -> list[dict[str, Any]]:
    """The answers to the run's validation rows, with their references."""
    from llmkit.data.prepare import read_splits
    from llmkit.inference.load_saved import load_saved_model

    saved = load_saved_model(str(run))
    assert saved.recipe is not None
    rows = read_splits(saved.recipe.data, saved.task).holdout["validation"]
    texts, references = rows.texts("text"), saved.task.references(rows)
    answers = llmkit.predict(str(run), texts)
    return [one | {"reference": reference} for one, reference in zip(answers, references, strict=True)]


@pytest.mark.parametrize(("threshold", "answer"), [(0.0, ["bad", "good", "long"]), (1.0, [])])
def test_predict_uses_the_thresholds_of_the_config(
    runs: Callable[[str], Path], threshold: float, answer: list[str]
) -> None:
    shutil.copytree(runs("multi") / "model", "model")
    config = loaded(Path("model/config.json"))
    Path("model/config.json").write_text(json.dumps(config | {"thresholds": [threshold] * 3}), encoding="utf-8")
    assert [one["answer"] for one in llmkit.predict("model", ["a great film", "dull"])] == [answer] * 2


def test_labels_are_asked_for_on_the_command_line(
    runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run_command_line(["predict", str(runs("multi")), "a great lovely superb film 3"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert "good" in said["answer"]
    assert set(said["probabilities"]) == {"bad", "good", "long"}


def test_plain_transformers_answers_in_the_users_units(runs: Callable[[str], Path]) -> None:
    model = AutoModelForSequenceClassification.from_pretrained(runs("regression") / "model")
    tokenizer = AutoTokenizer.from_pretrained(runs("regression") / "model")
    rows = lines(runs("regression") / "predictions.jsonl")
    batch = tokenizer([row["text"] for row in rows], padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        numbers = model(**batch).logits
    assert numbers.shape == (len(rows), 1)
    assert [row["answer"] for row in rows] == pytest.approx(numbers[:, 0].tolist(), rel=1e-5)
    assert 5 < numbers.min() < 20 < 35 < numbers.max() < 50
    assert (model.config.id2label, model.config.problem_type) == ({0: "stars"}, "regression")


def test_a_trained_number_is_trained_on_in_its_own_units(
    runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that starts from the saved head and learns almost nothing answers as before."""
    data = str(written("regression", 40, seed=5))
    keys = ["train.learning_rate=1e-12", "train.max_steps=1", "classify.kind=regression", "eval.baselines=[]"]
    model = str(runs("regression") / "model")
    assert cli.run_command_line(["finetune-classify", "--train", data, "--model", model, "-o", "again", *keys]) == 0
    assert "fresh" not in capsys.readouterr().err
    texts = ["a great film", "dull and boring"]
    before, after = ([one["answer"] for one in llmkit.predict(name, texts)] for name in (model, "again"))
    assert after == pytest.approx(before, rel=1e-4)


def test_pairs_are_asked_two_by_two(runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    run = str(runs("pairs"))
    assert cli.run_command_line(["predict", run, "a great film", "great", "dull", "a dull one"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["text_pair"]) for one in said] == [("a great film", "great"), ("dull", "a dull one")]
    assert cli.run_command_line(["predict", run, "a", "b", "c"]) == 64
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {run} needs pairs, and texts are 3; give them two by two"
    )
    tuples = llmkit.predict(run, [("a great film", "great"), ("dull", "a dull one")])
    assert [one["probabilities"] for one in tuples] == [one["probabilities"] for one in said]
    mend = "give one text per row, or a tuple of two for a model of pairs"
    for wrong, found in ((("a", "b", "c"), "3 texts"), (("a",), "1 text")):
        with pytest.raises(UsageError) as caught:
            llmkit.predict(run, [wrong])  # type: ignore[list-item]
        assert str(caught.value) == f"texts: row 1 has {found}, and {run} needs text and text_pair; {mend}"


def test_pairs_of_a_stream_are_parted_by_a_tab(
    runs: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(runs("pairs"))

    def stdin(text: str) -> int:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return cli.run_command_line(["predict", run])

    assert stdin("a great film\tgreat\n\ndull\ta dull one\n") == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["text"], one["text_pair"]) for one in said] == [("a great film", "great"), ("dull", "a dull one")]
    for wrong, found in {"a\tb\nlonely\n": "stdin:2: 1 text", "a\tb\tc\n": "stdin:1: 3 texts"}.items():
        assert stdin(wrong) == 65
        assert capsys.readouterr().err.splitlines()[-1] == (
            f"error: {found}, and the model needs pairs; separate two texts by a tab"
        )


def test_a_file_of_pairs_is_read_by_its_columns(runs: Callable[[str], Path]) -> None:
    rows = [{"text": "a great film", "text_pair": "great", "id": 7}]
    (said,) = llmkit.predict(str(runs("pairs")), data=write_jsonl("in.jsonl", rows))
    assert (said["id"], said["text_pair"]) == (7, "great")
    assert said["probabilities"] == llmkit.predict(str(runs("pairs")), [("a great film", "great")])[0]["probabilities"]


def test_a_second_text_is_named_or_refused_never_the_column_that_is_left(
    tiny: str, capsys: pytest.CaptureFixture[str]
) -> None:
    from llmkit.cli import run_command_line

    rows = [{"a": row["text"], "b": f"it is {row['label']}", "label": row["label"]} for row in make_reviews(40)]
    write_jsonl("pairs.jsonl", rows)
    write_jsonl("single.jsonl", [{"text": row["a"], "label": row["label"]} for row in rows])
    words = ["finetune-classify", "--train", "pairs.jsonl", "--text", "a", "--text-pair", "b", "--model", tiny]
    assert run_command_line([*words, "train.max_steps=1", "-o", "pairs"]) == 0
    capsys.readouterr()
    assert run_command_line(["predict", "pairs", "--data", "single.jsonl"]) == 65
    assert "no column 'text_pair'" in capsys.readouterr().err
    renamed = [{"x": row["a"], "y": row["b"], "label": row["label"]} for row in rows]
    write_jsonl("other.jsonl", renamed)
    for command in ("eval", "predict"):
        assert run_command_line([command, "pairs", "--data", "other.jsonl", "--text", "x", "--text-pair", "y"]) == 0
