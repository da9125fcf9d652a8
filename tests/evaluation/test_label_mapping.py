"""Labels of the data are mapped to those of the model, or rejected with a map to type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import llmkit
from llmkit import cli
from llmkit.data.rows import Rows, build_rows
from llmkit.errors import DataError, LlmkitError, UsageError
from llmkit.evaluation.label_mapping import map_references, match_labels, split_label_pair
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.testing import make_reviews, make_tiny_model, write_jsonl


def make_task(*labels: str, kind: Any = "single") -> Classify:
    task = Classify(ClassifyOptions(kind=kind))
    task.problem_type.labels = labels
    return task


def make_rows(references: list) -> Rows:
    lines = range(1, len(references) + 1)
    return build_rows({"verdict": [str(one) for one in references]}, "o.csv", lines).with_column_mapping(
        {"label": "verdict"}
    )


def match(model: tuple[str, ...], data: list, given_: Any = ()) -> dict[str, str]:
    return match_labels(make_task(*model), make_rows(data), data, given_)


def get_error(model: tuple[str, ...], data: list, given_: Any = ()) -> str:
    with pytest.raises(LlmkitError) as error:
        match(model, data, given_)
    assert isinstance(error.value, UsageError if given_ else DataError)
    return str(error.value)


def test_equal_labels_need_no_map_and_no_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert match(("bad", "good", "so so"), ["good", "bad"]) == {}
    assert match(("bad", "good"), [["good", "bad"], []]) == {}
    assert capsys.readouterr().err == ""


def test_labels_are_matched_up_to_case_and_space_with_a_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert match(("so so", "good"), ["Good", "SO  so ", "GOOD"]) == {"Good": "good", "SO  so ": "so so", "GOOD": "good"}
    assert capsys.readouterr().err == (
        "labels matched up to case and space: 'Good' is 'good', 'SO  so ' is 'so so', 'GOOD' is 'good'\n"
        "several labels count as one: 'Good' and 'GOOD' as 'good'\n"
    )


@pytest.mark.parametrize(
    ("model", "data"),
    [(("bad", "good"), ["good", "Bad"]), (("bad", "good", "Good"), ["GOOD", "BAD"]), (("bad",), ["Bad", "x"])],
)
def test_ambiguous_matches_by_case_and_space_are_rejected(model: tuple[str, ...], data: list) -> None:
    assert " is not a label of the model: the data has " in get_error(model, data)


def test_numbered_labels_are_suggested_for_numbers() -> None:
    assert get_error(("LABEL_0", "LABEL_1"), ["1", "0", "1"]) == (
        "o.csv:1: label '1' of column 'verdict' is not a label of the model: the data has 0, 1, the model LABEL_0, LABEL_1; "
        "if these have the same meaning, add --label-map 0=LABEL_0 --label-map 1=LABEL_1; "
        "else name the column of the labels with --label\n  o.csv:1: '1' in 2 rows\n  o.csv:2: '0' in 1 row"
    )


def test_other_labels_are_paired_in_order_as_a_suggestion() -> None:
    flags = "--label-map negative=LABEL_0 --label-map 'so so=LABEL_1'"
    assert f"if these have the same meaning, add {flags}; else " in get_error(
        ("LABEL_0", "LABEL_1"), ["so so", "negative"]
    )


def test_remaining_labels_are_paired() -> None:
    assert "add --label-map worse=bad; else" in get_error(("bad", "good"), ["good", "worse"])


def test_without_a_suggestion_the_fix_explains_the_syntax() -> None:
    assert get_error(("bad", "good"), ["good", "fine"] * 2 + ["ok"]) == (
        "o.csv:2: label 'fine' of column 'verdict' is not a label of the model: the data has fine, good, ok, the model bad, "
        "good; name the column of the labels with --label, or map each label with --label-map 'fine=LABEL'\n"
        "  o.csv:2: 'fine' in 2 rows\n  o.csv:5: 'ok' in 1 row"
    )


def test_an_explicit_map_may_merge_labels_and_omit_equal_ones() -> None:
    given_ = ["fine=good", "ok=good"]
    assert match(("bad", "good"), ["fine", "ok", "bad"], given_) == {"fine": "good", "ok": "good"}
    assert match(("bad", "good"), ["fine", "ok", "bad"], {"fine": "good", "ok": "bad"}) == {"fine": "good", "ok": "bad"}
    assert match(("bad", "good"), ["good", "bad"], {"good": "bad", "bad": "good"}) == {"good": "bad", "bad": "good"}


def test_merged_labels_are_reported(capsys: pytest.CaptureFixture[str]) -> None:
    match(("bad", "good"), ["fine", "bad", "ok", "good", "poor"], ["fine=good", "ok=good", "poor=bad"])
    sentence = "several labels count as one: 'fine' and 'ok' and 'good' as 'good', 'bad' and 'poor' as 'bad'\n"
    assert capsys.readouterr().err == sentence
    match(("bad", "good"), [["fine", "good"], []], {"fine": "good"})
    assert capsys.readouterr().err == "several labels count as one: 'fine' and 'good' as 'good'\n"
    match(("bad", "good"), ["good", "bad"], {"good": "bad", "bad": "good"})
    assert capsys.readouterr().err == ""


def test_labels_outside_the_map_are_matched_as_usual() -> None:
    assert match(("bad", "good"), ["fine", "Bad"], ["fine=good"]) == {"fine": "good", "Bad": "bad"}


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        (["fine=great"], "--label-map fine=great: the model has no label 'great'; known: bad, good"),
        (["fin=good"], "--label-map fin=good: the data has no label 'fin'; did you mean 'fine'?"),
        (["fine=good", "fine=bad"], "--label-map fine=bad: 'fine' is mapped to 'good' already; map each label once"),
        (["fine"], "--label-map fine: not DATA=MODEL; write a label of the data, =, and a label of the model"),
        ({"fine": "god"}, "label_map {'fine': 'god'}: the model has no label 'god'; did you mean 'good'?"),
        ({"x": "good"}, "label_map {'x': 'good'}: the data has no label 'x'; known: fine, bad"),
    ],
)
def test_maps_with_unknown_labels_are_rejected(given_: Any, sentence: str) -> None:
    assert get_error(("bad", "good"), ["fine", "bad"], given_) == sentence


@pytest.mark.parametrize(
    ("given_", "sentence"),
    [
        ({0: "bad"}, "label_map {0: 'bad'}: labels are text; put both in quotes"),
        ({"0": "bad", "1": 1}, "label_map {'1': 1}: labels are text; put both in quotes"),
        (None, "label_map None: not a mapping; write {'label of the data': 'label of the model'}"),
        ("0=bad", "label_map '0=bad': not a mapping; write {'label of the data': 'label of the model'}"),
        (b"0=bad", "label_map b'0=bad': not a mapping; write {'label of the data': 'label of the model'}"),
        (7, "label_map 7: not a mapping; write {'label of the data': 'label of the model'}"),
        (["0=bad", ("1", "good")], "label_map ('1', 'good'): not a 'DATA=MODEL' text; write {'label of the data': 'label of the model'}"),
        ([None], "label_map None: not a 'DATA=MODEL' text; write {'label of the data': 'label of the model'}"),
    ],
)  # fmt: skip
def test_invalid_maps_are_rejected_before_the_model_is_opened(given_: Any, sentence: str) -> None:
    for scored in (
        llmkit.evaluate,
        lambda model, *more, **options: llmkit.compare([model, "another"], *more, **options),
    ):
        with pytest.raises(UsageError) as error:
            scored("no/such/run", "o.jsonl", label_map=given_)
        assert str(error.value) == sentence


def test_a_pair_is_split_between_two_labels() -> None:
    assert split_label_pair("a=b=c", ["a=b"], ["c"]) == ("a=b", "c")
    assert split_label_pair("a=b=c", ["a"], ["b=c"]) == ("a", "b=c")
    with pytest.raises(UsageError) as error:
        split_label_pair("a=b=c", ["a", "a=b"], ["c", "b=c"])
    assert str(error.value) == (
        "--label-map a=b=c: ambiguous: 'a' and 'b=c' or 'a=b' and 'c'; use Python: llmkit.evaluate(..., label_map={...})"
    )


LABEL = st.text("ab= ", min_size=1, max_size=4)


@pytest.mark.slow
@given(st.lists(LABEL, min_size=1, unique=True), st.lists(LABEL, min_size=1, unique=True), st.data())
def test_a_pair_is_split_if_unambiguous_else_rejected(data: list[str], model: list[str], draw: Any) -> None:
    label, own = draw.draw(st.sampled_from(data)), draw.draw(st.sampled_from(model))
    text = f"{label}={own}"
    ways = [(text[:i], text[i + 1 :]) for i in range(len(text)) if text[i] == "="]
    if sum(left in data and right in model for left, right in ways) == 1:
        assert split_label_pair(text, data, model) == (label, own)
    else:
        with pytest.raises(UsageError, match=r" or '"):
            split_label_pair(text, data, model)


def test_several_labels_of_a_row_are_mapped_and_count_once() -> None:
    assert map_references([["fine", "ok", "bad"], []], {"fine": "good", "ok": "good"}) == [["good", "bad"], []]
    assert map_references(["fine", "bad"], {"fine": "good"}) == ["good", "bad"]


def test_numbers_have_no_labels_to_map() -> None:
    task = make_task(kind="regression")
    assert match_labels(task, make_rows([1.5]), [1.5]) == {}
    with pytest.raises(UsageError) as error:
        match_labels(task, make_rows([1.5]), [1.5], ["1=2"])
    assert str(error.value) == "--label-map: the model has no labels; leave it out"


@pytest.mark.slow
def test_a_mapped_report_has_its_map_and_the_files_labels(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row | {"label": {"bad": "0", "good": "1"}[row["label"]]} for row in make_reviews(20, seed=8)]
    file = write_jsonl("o.jsonl", rows)
    assert cli.run_command_line(["eval", str(finished), "--data", file]) == 65
    flags = capsys.readouterr().err.split("add ")[1].split(";")[0].split()
    assert flags == ["--label-map", "0=bad", "--label-map", "1=good"]
    assert cli.run_command_line(["eval", str(finished), "--data", file, "--json", "-o", "out", *flags]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["label_map"] == {"0": "bad", "1": "good"}
    assert report["metrics"]["accuracy"]["value"] >= 0.8
    assert llmkit.evaluate(str(finished), file, label_map={"0": "bad", "1": "good"}) == report
    first = json.loads(Path("out/predictions.jsonl").read_text(encoding="utf-8").split("\n")[0])
    assert (first["label"], first["reference"]) == ("0", "bad")


def test_a_foreign_model_with_numbered_labels_takes_a_map() -> None:
    foreign = make_tiny_model("foreign", auto_class="AutoModelForSequenceClassification", num_labels=2)
    file = write_jsonl("o.jsonl", make_reviews(6))
    with pytest.raises(DataError) as error:
        llmkit.evaluate(foreign, file)
    assert "add --label-map bad=LABEL_0 --label-map good=LABEL_1; else" in str(error.value)
    report = llmkit.evaluate(foreign, file, label_map=["bad=LABEL_0", "good=LABEL_1"], metrics=["accuracy"])
    assert report["labels"] == ["LABEL_0", "LABEL_1"]
    assert report["n"] == 6


def test_multi_label_rows_are_mapped() -> None:
    names = {"id2label": {0: "war", 1: "peace"}, "label2id": {"war": 0, "peace": 1}}
    model = make_tiny_model(
        "m", auto_class="AutoModelForSequenceClassification", problem_type="multi_label_classification", **names
    )
    rows = [
        {"text": "a film", "tags": ["War", "PEACE"]},
        {"text": "the story", "tags": []},
        {"text": "x", "tags": ["War"]},
    ]
    report = llmkit.evaluate(model, write_jsonl("o.jsonl", rows), label="tags", output_dir="out", per_label=True)
    assert report["label_map"] == {"War": "war", "PEACE": "peace"}
    assert "confusions" not in report
    assert report["per_label"]["war"]["support"] == 2
    predictions = [json.loads(line) for line in Path("out/predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [(one["tags"], one["reference"]) for one in predictions] == [
        (["War", "PEACE"], ["war", "peace"]),
        ([], []),
        (["War"], ["war"]),
    ]
