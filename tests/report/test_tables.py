"""Tests of the score tables and the sentences below them."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import pytest

from llmkit.evaluation.compare import Comparison, Difference
from llmkit.evaluation.score_report import Report
from llmkit.metrics import Score
from llmkit.report import tables


def score(value: float) -> Score:
    return Score(value, value - 0.1, value + 0.1, "")


UNDEFINED = Score(nan, nan, nan, "")


def build_report(own: Score, baseline: Score, *lower_is_better: str, **more: object) -> Report:
    return replace(
        Report(
            "classify", "test", 5, ["a", "b"], {"x": own}, {"tfidf": {"x": baseline}}, lower_is_better=lower_is_better
        ),
        **more,
    )  # type: ignore[arg-type]


BEATEN = (
    "run does not beat TF-IDF + logistic regression in x: more rows, more epochs or a higher learning rate may help"
)


@pytest.mark.parametrize(
    ("own", "baseline", "lower_is_better", "beaten"),
    [
        (score(0.5), score(0.6), (), True),
        (score(0.5), score(0.5), (), True),
        (score(0.6), score(0.5), (), False),
        (score(0.5), score(0.6), ("x",), False),
        (score(0.6), score(0.5), ("x",), True),
        (UNDEFINED, score(0.5), (), False),
        (score(0.5), UNDEFINED, (), False),
    ],
)
def test_unbeaten_baselines_are_named(
    own: Score, baseline: Score, lower_is_better: tuple[str, ...], beaten: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    tables.print_report(build_report(own, baseline, *lower_is_better), "run")
    assert (BEATEN in capsys.readouterr().out.splitlines()) is beaten


def test_an_undefined_score_is_marked(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_report(build_report(score(0.5), UNDEFINED), "run")
    _, _, _, own, baseline = capsys.readouterr().out.splitlines()
    assert own.split() == ["run", "0.500", "[0.400,", "0.600]"]
    assert baseline.split()[-1] == "undefined"


def test_a_regression_baseline_has_its_own_name(capsys: pytest.CaptureFixture[str]) -> None:
    tables.print_report(build_report(score(0.6), score(0.5), labels=[]), "run")
    assert "TF-IDF + ridge regression   0.500" in capsys.readouterr().out


def test_labels_are_sorted_worst_first_and_confusions_counted(capsys: pytest.CaptureFixture[str]) -> None:
    each = {
        label: {"precision": score(0.5), "recall": score(0.25), "f1": score(f1), "support": 1234}
        for label, f1 in (("a", 0.9), ("b", 0.1))
    }
    pairs = [("a", f"b{i}", 30 - i) for i in range(22)]
    tables.print_report(build_report(score(0.6), score(0.5), per_label=each, confusions=pairs), "run")
    lines = capsys.readouterr().out.splitlines()
    assert lines[5:10] == [
        "",
        "label              precision                 recall                     f1    rows",
        lines[7],
        "b       0.500 [0.400, 0.600]   0.250 [0.150, 0.350]   0.100 [0.000, 0.200]   1,234",
        "a       0.500 [0.400, 0.600]   0.250 [0.150, 0.350]   0.900 [0.800, 1.000]   1,234",
    ]
    assert lines[11].split() == ["reference", "predicted", "rows"]
    assert lines[13].split() == ["a", "b0", "30"]
    assert len(lines) == 34
    assert lines[-1] == "and 2 more pairs"


@pytest.mark.parametrize(
    ("difference", "lower_is_better", "sentence"),
    [
        ((0.021, 0.004, 0.038), False, "b is better than a in x by 0.021 [0.004, 0.038]"),
        ((-0.021, -0.038, -0.004), False, "b is worse than a in x by 0.021 [0.004, 0.038]"),
        ((-0.021, -0.038, -0.004), True, "b is better than a in x by 0.021 [0.004, 0.038]"),
        ((0.021, 0.004, 0.038), True, "b is worse than a in x by 0.021 [0.004, 0.038]"),
        (
            (0.01, -0.002, 0.022),
            False,
            "no significant difference between b and a in x: it is 0.010 [-0.002, 0.022]",
        ),
        ((nan, nan, nan), False, "no significant difference between b and a in x: it is undefined on these rows"),
    ],
)
def test_differences_are_described(difference: tuple, lower_is_better: bool, sentence: str) -> None:
    assert tables.describe_difference("b", "a", "x", Difference(*difference), lower_is_better) == sentence


def test_a_comparison_is_one_table(capsys: pytest.CaptureFixture[str]) -> None:
    first, second = build_report(score(0.6), score(0.5)), build_report(UNDEFINED, score(0.5))
    tables.print_comparison(Comparison(["a", "b"], [first, second], [{"x": Difference(nan, nan, nan)}]))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[3:7]] == ["a", "b", "TF-IDF + logistic regression", "b - a"]
    assert [line.split()[-1] for line in lines[3:7]] == ["0.700]", "undefined", "0.600]", "undefined"]
    assert lines[7] == "no significant difference between b and a in x: it is undefined on these rows"


def test_differences_in_json_have_null_for_undefined() -> None:
    record = Comparison(["a", "b"], [], [{"x": Difference(nan, nan, nan), "y": Difference(1, 0, 2)}]).as_dict()
    assert record["differences"] == [
        {
            "model": "b",
            "against": "a",
            "metrics": {"x": {"value": None, "low": None, "high": None}, "y": {"value": 1, "low": 0, "high": 2}},
        }
    ]


SUMMARY = ("rougeL", "rouge1", "rouge2", "rougeLsum", "chrf", "length_ratio", "repetition", "copy", "novelty")


def build_summary_report() -> Report:
    by = {name: score(0.5) for name in SUMMARY}
    return Report("summarize", "test", 5, [], by, {"lead1": by, "lead3": by, "first_sentence": by})


def print_lines(columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of a table of nine scores on a terminal with this many columns."""
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", str(columns))
    tables.print_report(build_summary_report(), "this run")
    lines = capsys.readouterr().out.splitlines()[:-1]  # without the line of the unbeaten baselines
    assert all(len(line) <= columns for line in lines)
    assert not any("…" in line for line in lines)
    return lines


def test_a_narrow_terminal_gets_a_row_for_each_metric(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interval = "0.500 [0.400, 0.600]"
    wide = print_lines(250, monkeypatch, capsys)
    assert (len(wide), wide[3].count(interval)) == (7, 9)
    transposed = print_lines(120, monkeypatch, capsys)
    assert transposed[1].split() == ["this", "run", "lead1", "lead3", "first_sentence"]
    assert [line.split()[0] for line in transposed[3:]] == list(SUMMARY)
    assert transposed[3].count(interval) == 4
    narrow = print_lines(80, monkeypatch, capsys)
    assert narrow[-1] == "--json has the intervals of the baselines too"
    assert narrow[3].split() == ["rougeL", "0.500", "[0.400,", "0.600]", "0.500", "0.500", "0.500"]
    several = print_lines(45, monkeypatch, capsys)
    assert [line.split()[0] for line in several[1:] if line.startswith("  ")] == list(SUMMARY)
    assert sum(line.count(interval) for line in several) == 36


def test_a_narrow_terminal_keeps_the_interval_of_f1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("llmkit.console.is_stdout_terminal", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    by = {"precision": score(0.5), "recall": score(0.25), "f1": score(0.9), "support": 1234}
    tables.print_label_scores(build_report(score(0.6), score(0.5), per_label={"very positive": by}))
    assert capsys.readouterr().out.splitlines()[-1].split() == [
        "very", "positive", "0.500", "0.250", "0.900", "[0.800,", "1.000]", "1,234",
    ]  # fmt: skip
