"""Tests of prediction: invariance to batch size and order, input columns, stdin, and unusable models."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmkit
from llmkit.errors import DataError, ModelError
from llmkit.inference.load_saved import SavedModel, load_saved_model
from llmkit.inference.predict import build_record, build_text_rows, predict_records, read_line_batches
from llmkit.tasks.base import Prediction
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl

TEXTS = [row["text"] for row in make_reviews(30, seed=5)] + ["great " * 100, "x", "我喜欢 🙂 مرحبا"]


@pytest.fixture(scope="module")
def saved(finished: Path) -> SavedModel:
    return load_saved_model(str(finished))


def near(left: list[dict], right: list[dict]) -> bool:
    return all(
        a["text"] == b["text"] and a["prediction"] == b["prediction"]
        and a["probabilities"] == pytest.approx(b["probabilities"], abs=1e-5)
        for a, b in zip(left, right, strict=True)
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
def test_the_batch_size_changes_no_prediction(saved: SavedModel, batch_size: int) -> None:
    one = list(predict_records(saved, build_text_rows(saved, TEXTS), 64, "fp32"))
    assert [record["text"] for record in one] == TEXTS
    assert near(one, list(predict_records(saved, build_text_rows(saved, TEXTS), batch_size, "fp32")))


@pytest.mark.slow
@settings(max_examples=10, deadline=None)
@given(order=st.permutations(range(len(TEXTS))))
def test_the_order_of_rows_changes_no_prediction(saved: SavedModel, order: list[int]) -> None:
    one = list(predict_records(saved, build_text_rows(saved, TEXTS), 8, "fp32"))
    shuffled = list(predict_records(saved, build_text_rows(saved, [TEXTS[i] for i in order]), 8, "fp32"))
    assert near([one[i] for i in order], shuffled)


def test_predictions_do_not_depend_on_the_rows_per_pass(saved: SavedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = list(predict_records(saved, build_text_rows(saved, TEXTS), 8, "fp32"))
    monkeypatch.setattr("llmkit.inference.predict.PREDICTION_ROWS", 7)
    assert near(whole, list(predict_records(saved, build_text_rows(saved, TEXTS), 8, "fp32")))


def test_input_columns_are_kept_and_colliding_names_renamed(finished: Path) -> None:
    rows = [
        {"id": 7, "text": "a great film", "prediction": "mine", "tags": ["x", 1], "note": None},
        {"id": 8, "text": "dull"},
    ]
    given_, bare = llmkit.predict(str(finished), data=write_jsonl("in.jsonl", rows))
    assert given_["id"] == 7
    assert given_["input.prediction"] == "mine"
    assert given_["tags"] == ["x", 1]
    assert given_["note"] is None
    assert given_["prediction"] == "good"
    assert bare["prediction"] == "bad"
    assert set(bare) == {"id", "text", "prediction", "probabilities"}


def test_texts_may_be_one_or_many(finished: Path) -> None:
    assert [record["prediction"] for record in llmkit.predict(str(finished), "a great film")] == ["good"]
    assert llmkit.predict(str(finished), []) == []


def test_another_text_column_can_be_named(finished: Path) -> None:
    path = write_jsonl("in.jsonl", [{"headline": "a great film", "story": "dull"}])
    assert llmkit.predict(str(finished), data=path, text="headline")[0]["prediction"] == "good"
    assert llmkit.predict(str(finished), data=path, text="story")[0]["prediction"] == "bad"


def test_each_line_of_stdin_is_a_text(saved: SavedModel) -> None:
    (rows,) = read_line_batches(saved, io.BytesIO("\ufeffone\r\n\n  \ntwo 我\n".encode()))
    assert rows.texts("text") == ["one", "two 我"]
    assert rows.location(1) == "stdin:4"
    with pytest.raises(DataError) as error:
        list(read_line_batches(saved, io.BytesIO(b"one\ncaf\xe9\n")))
    assert str(error.value) == "stdin:2: not UTF-8 (byte 0xe9); convert it, for example with iconv -t utf-8"


@pytest.mark.parametrize(
    ("text", "end"),
    [("a", "\n"), (" a\x0b", "\n"), *((text, end) for text in ("a", "a\r", "\ra\r\r") for end in ("", "\r\n"))],
)
def test_only_the_line_end_is_removed_from_a_line(saved: SavedModel, text: str, end: str) -> None:
    (rows,) = read_line_batches(saved, io.BytesIO(f"{text}{end}".encode()))
    assert rows.texts("text") == [text]


def test_no_input_column_is_lost() -> None:
    row = {"text": "t", "prediction": 1, "input.prediction": 2, "reference": 3, "input.probabilities": 4}
    made = build_record(row, Prediction("good", {"good": 1.0}))
    assert made == {
        "text": "t", "input.input.prediction": 1, "input.prediction": 2, "input.reference": 3, "input.probabilities": 4,
        "prediction": "good", "probabilities": {"good": 1.0},
    }  # fmt: skip


def test_a_column_has_one_name_in_every_record(finished: Path) -> None:
    rows = [{"text": "a great film", "prediction": 1, "input.prediction": 2}, {"text": "dull", "prediction": 3}]
    both, one = llmkit.predict(str(finished), data=write_jsonl("in.jsonl", rows))
    assert (both["input.input.prediction"], both["input.prediction"]) == (1, 2)
    assert one["input.input.prediction"] == 3
    assert "input.prediction" not in one


def test_numbers_too_large_for_a_float_are_kept_as_inf(finished: Path) -> None:
    Path("in.jsonl").write_text('{"text": "a great film", "big": 1e999, "x": 1.10, "tags": [1.50, "a"]}\n')
    (record,) = llmkit.predict(str(finished), data="in.jsonl")
    assert record["big"] == float("inf")
    assert (record["x"], record["tags"]) == (1.1, [1.5, "a"])


def test_a_model_without_a_head_is_an_error() -> None:
    headless = make_tiny_model("headless")
    with pytest.raises(ModelError) as error:
        llmkit.predict(headless, "a film")
    assert str(error.value) == (
        "headless: a BertModel, which fits none of llmkit's tasks; "
        "fine-tune it first: llmkit finetune-classify --model headless --train FILE"
    )


def test_a_model_with_missing_weights_is_an_error(finished: Path) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(finished / "model", "broken")
    weights = load_file("broken/model.safetensors")
    del weights["classifier.weight"]
    save_file(weights, "broken/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError) as error:
        llmkit.predict("broken", "a film")
    assert str(error.value) == (
        "broken: 1 weight is missing: classifier.weight; "
        "its head would be random; name a model that was trained for the task"
    )


def test_a_flipped_byte_in_a_run_is_an_error(finished: Path) -> None:
    shutil.copytree(finished, "run")
    path = Path("run/model/model.safetensors")
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError) as error:
        llmkit.predict("run", "a film")
    assert str(error.value) == (
        "run/model/model.safetensors: not the file that the run wrote; copy the run folder again, or train again"
    )


def test_an_unfinished_run_is_an_error(finished: Path) -> None:
    shutil.copytree(finished, "run")
    run_manifest = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    Path("run/run.json").write_text(json.dumps(run_manifest | {"sealed": None}), encoding="utf-8")
    with pytest.raises(ModelError) as error:
        llmkit.predict("run", "a film")
    assert str(error.value) == "run: the run did not finish; `llmkit train --resume run` continues it"


def test_the_model_folder_predicts_like_its_run(finished: Path) -> None:
    assert near(llmkit.predict(str(finished), TEXTS), llmkit.predict(str(finished / "model"), TEXTS))


def test_bf16_changes_probabilities_slightly(saved: SavedModel) -> None:
    exact = list(predict_records(saved, build_text_rows(saved, TEXTS), 8, "fp32"))
    coarse = list(predict_records(saved, build_text_rows(saved, TEXTS), 8, "bf16"))
    moved = [abs(a["probabilities"]["bad"] - b["probabilities"]["bad"]) for a, b in zip(exact, coarse, strict=True)]
    assert 0 < max(moved) < 0.05


@pytest.mark.parametrize(
    ("content", "blank"),
    [("a great film\n\n \t\ndull\n", "2 blank lines"), ("a film\n\n", "1 blank line"), ("a film\n", "")],
)
def test_blank_lines_of_a_text_file_are_counted(
    finished: Path, content: str, blank: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("in.txt").write_text(content, encoding="utf-8")
    assert len(llmkit.predict(str(finished), data="in.txt")) == len(content.split("\n")) - 1 - int(blank[:1] or 0)
    assert capsys.readouterr().err == (f"in.txt: {blank} left out, without a prediction\n" if blank else "")
