"""Metrics of the evaluate library: their inputs, results, intervals and error messages."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmkit.errors import DataError, MissingInputError, NetworkError, UsageError
from llmkit.metrics.external import evaluate_library
from llmkit.metrics.intervals import bootstrap_interval, draw_resamples
from llmkit.metrics.rows import make_mean_statistic

SCRIPT = """import datasets
import evaluate


class Mine(evaluate.Metric):
    def _info(self):
        one = {one}
        features = {features}
        return evaluate.MetricInfo(description="", citation="", inputs_description="", features=features)

    def _compute(self, predictions, references):
        print("noise")
        {body}
"""
BOTH = 'datasets.Features({"predictions": one, "references": one})'
INTEGERS, TEXT, FLOATS = (f'datasets.Value("{kind}")' for kind in ("int32", "string", "float64"))
SHARE = 'return {"mine": sum(a == b for a, b in zip(predictions, references)) / len(references)}'
EACH = 'return {"mine": [float(a == b) for a, b in zip(predictions, references)]}'


def write_metric(one: str, body: str, features: str = BOTH, name: str = "mine") -> str:
    """Write a metric script into its own folder, and return the metric name."""
    Path(name).mkdir(exist_ok=True)
    text = SCRIPT.replace("{one}", one).replace("{features}", features).replace("{body}", body)
    Path(name, f"{name}.py").write_text(text, encoding="utf-8")
    return f"evaluate:./{name}"


def get_error(name: str, references: list, predictions: list, labels: tuple[str, ...] = ("bad", "good")) -> str:
    with pytest.raises((DataError, NetworkError, MissingInputError)) as error:
        evaluate_library.run_evaluate_metric(name, references, predictions, labels)
    return str(error.value)


@pytest.mark.slow
def test_a_total_has_an_interval_and_a_signature(capsys: pytest.CaptureFixture[str]) -> None:
    name = write_metric(INTEGERS, SHARE)
    true, predictions = ["good", "bad"] * 10, ["good", "good"] * 10
    scores = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, true, predictions, ("bad", "good"))
    )
    (score,) = scores.values()
    digest = hashlib.sha256(Path("mine/mine.py").read_bytes()).hexdigest()[:12]
    assert list(scores) == [name]
    assert score.value == 0.5
    assert 0.2 < score.low < 0.5 < score.high < 0.8
    assert score.signature == f"evaluate:./mine|sha256:{digest}|interval:percentile,200,seed=0|evaluate 0.4.6"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "noise" in captured.err


def test_without_intervals_nothing_is_recomputed(capsys: pytest.CaptureFixture[str]) -> None:
    name = write_metric(INTEGERS, SHARE)
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, ["good"], ["good"], ("bad", "good")), intervals=False
    ).values()
    assert score.value == 1
    assert np.isnan([score.low, score.high]).all()
    assert capsys.readouterr().err.count("noise") == 1


def test_numbers_per_row_have_the_interval_of_their_mean(capsys: pytest.CaptureFixture[str]) -> None:
    name = write_metric(TEXT, EACH)
    true, predictions = ["good", "bad"] * 10, ["good", "good"] * 9 + ["good", "bad"]
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, true, predictions, ("bad", "good"))
    ).values()
    right = np.array([float(a == b) for a, b in zip(true, predictions, strict=True)])
    assert (score.value, score.low, score.high) == (
        0.55,
        *bootstrap_interval(make_mean_statistic(right), np.ones(20, np.int64)),
    )
    assert score.signature.split("|")[2] == "interval:bca,2000,seed=0"
    assert capsys.readouterr().err.count("noise") == 1


def test_several_numbers_have_keys_and_other_results_are_skipped() -> None:
    body = 'return {"mine": 1, "precision": 0.5, "words": "x", "some": [1, 2], "ok": True, "each": [1.0] * 3}'
    result = evaluate_library.run_evaluate_metric(
        write_metric(TEXT, body), ["a", "b", "a"], ["a", "a", "a"], ("a", "b")
    )
    assert result.totals == {"evaluate:./mine": 1.0, "evaluate:./mine.precision": 0.5}
    assert list(result.by_row) == ["evaluate:./mine.each"]


@pytest.mark.parametrize(
    ("one", "references", "labels", "expected"),
    [
        (INTEGERS, ["good", "bad"], ("bad", "good"), [1, 0]),
        (TEXT, ["good", "bad"], ("bad", "good"), ["good", "bad"]),
        (TEXT, ["any text"], (), ["any text"]),
        (FLOATS, [1.5, -2.0], (), [1.5, -2.0]),
        (f"datasets.Sequence({INTEGERS})", [["good", "bad"], []], ("bad", "good"), [[1, 0], []]),
        (f"datasets.Sequence({TEXT})", [["good"], ["bad", "good"]], ("bad", "good"), [["good"], ["bad", "good"]]),
        (f"datasets.Sequence({TEXT})", [["a text"], ["one", "two"]], (), [["a text"], ["one", "two"]]),
    ],
)
def test_inputs_are_converted_to_the_features(
    one: str, references: list, labels: tuple[str, ...], expected: list
) -> None:
    name = write_metric(one, f'return {{"mine": float(predictions == references == {expected!r})}}')
    assert evaluate_library.run_evaluate_metric(name, references, references, labels).totals == {name: 1.0}


@pytest.mark.parametrize(
    ("one", "references", "labels", "feature_type", "kind"),
    [
        (INTEGERS, [["good"]], ("good",), "integers", "lists of labels"),
        (f"datasets.Sequence({TEXT})", ["good"], ("good",), "lists of text", "labels"),
        (FLOATS, ["good"], ("good",), "numbers", "labels"),
        (INTEGERS, [1.0], (), "integers", "numbers"),
    ],
)
def test_unsuitable_inputs_raise_an_error(
    one: str, references: list, labels: tuple, feature_type: str, kind: str
) -> None:
    assert get_error(write_metric(one, SHARE), references, references, labels) == (
        f"evaluate:./mine: takes predictions: {feature_type} and references: {feature_type} (one per row), but these rows have {kind}; "
        "use another metric"
    )


def test_the_first_suitable_features_are_used() -> None:
    other = 'datasets.Features({"predictions": one, "references": datasets.Sequence(one)})'
    name = write_metric(TEXT, SHARE, f"[{other}, {BOTH}]")
    assert evaluate_library.run_evaluate_metric(name, ["good"], ["good"], ("good",)).totals == {name: 1.0}


SEVERAL = 'datasets.Features({"predictions": one, "references": datasets.Sequence(one)})'


def test_text_metrics_get_several_references_per_row() -> None:
    """Like bertscore: lists of references if possible, else texts."""
    body = 'return {"mine": [float(a in b) for a, b in zip(predictions, references)]}'
    name = write_metric(TEXT, body, f"[{SEVERAL}, {BOTH}]")
    result = evaluate_library.run_evaluate_metric(name, [["a", "b"], ["c"]], ["b", "d"], ())
    assert result.by_row[name].tolist() == [1, 0]


def test_lists_of_one_reference_are_unpacked() -> None:
    name = write_metric(TEXT, SHARE)
    assert evaluate_library.run_evaluate_metric(name, [["a"], ["b"]], ["a", "a"], ()).totals == {name: 0.5}
    assert get_error(name, [["a"], ["b", "c"]], ["a", "a"], ()) == (
        "evaluate:./mine: takes predictions: text and references: text (one per row), but these rows have lists of text; "
        "use another metric"
    )


def test_arguments_after_the_question_mark_reach_the_metric() -> None:
    body = 'return {"mine": float((lang, idf, layers) == ("en", True, 9))}'
    name = write_metric(TEXT, body)
    text = (
        Path("mine/mine.py")
        .read_text()
        .replace("predictions, references)", "predictions, references, lang, idf=0, layers=0)")
    )
    Path("mine/mine.py").write_text(text)
    with_arguments = f"{name}?lang=en&idf=true&layers=9"
    assert evaluate_library.run_evaluate_metric(with_arguments, ["a"], ["a"], ()).totals == {with_arguments: 1.0}
    assert get_error(name, ["a"], ["a"], ()).startswith(
        "evaluate:./mine: TypeError: Mine._compute() missing 1 required"
    )
    with pytest.raises(UsageError) as error:
        evaluate_library.load_evaluate_metric("evaluate:./mine?lang")
    assert str(error.value) == (
        "evaluate:./mine?lang: 'lang' is not KEY=VALUE; write evaluate:./mine?KEY=VALUE&KEY=VALUE"
    )


def test_metrics_with_other_input_names_raise_an_error() -> None:
    name = write_metric(FLOATS, SHARE, 'datasets.Features({"prediction_scores": one, "references": one})')
    assert get_error(name, ["good"], ["good"]) == (
        "evaluate:./mine: takes prediction_scores and references, not references and predictions; name another metric"
    )


def test_the_error_of_a_failing_metric_is_reported() -> None:
    assert get_error(write_metric(TEXT, 'raise ValueError("no\\nsuch thing")'), ["good"], ["good"]) == (
        "evaluate:./mine: ValueError: no such thing; fix the metric, or leave it out"
    )
    assert get_error(write_metric(TEXT, 'return {"mine": "many"}'), ["good"], ["good"]) == (
        "evaluate:./mine: returns no number; use a metric that returns numbers"
    )
    Path("mine/mine.py").write_text("1 / 0\n")
    assert get_error("evaluate:./mine", ["good"], ["good"]) == (
        "evaluate:./mine: ZeroDivisionError: division by zero; fix the metric, or leave it out"
    )


@pytest.mark.parametrize(
    ("act", "words"),
    [("raise SystemExit", "SystemExit"), ("exit('enough')", "SystemExit: enough"), ("assert 0", "AssertionError")],
)
def test_a_metric_that_exits_raises_an_error(act: str, words: str) -> None:
    sentence = f"evaluate:./mine: {words}; fix the metric, or leave it out"
    assert get_error(write_metric(TEXT, act), ["good"], ["good"]) == sentence
    Path("mine/mine.py").write_text(f"{act}\n")
    assert get_error("evaluate:./mine", ["good"], ["good"]) == sentence


@pytest.mark.slow
def test_a_metric_that_exits_on_some_rows_is_undefined_there() -> None:
    name = write_metric(TEXT, f"if len(set(references)) < 2: raise SystemExit\n        {SHARE}")
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, ["good", "bad"], ["good", "bad"], ("bad", "good"))
    ).values()
    assert (score.value, score.low, score.high) == (1, 1, 1)


def test_keyboard_interrupts_are_not_caught() -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate_library.run_evaluate_metric(
            write_metric(TEXT, "raise KeyboardInterrupt"), ["good"], ["good"], ("good",)
        )


@pytest.mark.slow
def test_undefined_resamples_are_left_out_of_the_interval() -> None:
    name = write_metric(TEXT, f'assert len(set(references)) == 2, "one class"\n        {SHARE}')
    result = evaluate_library.run_evaluate_metric(name, ["good", "bad"], ["good", "bad"], ("bad", "good"))
    (score,) = evaluate_library.score_evaluate_metric(result).values()
    assert (score.value, score.low, score.high) == (1, 1, 1)
    drawn = np.concatenate(list(draw_resamples(np.ones(2, np.int64), evaluate_library.SLOW_RESAMPLES, seed=0)))
    lost = int((drawn == 2).any(axis=1).sum())
    assert 0 < lost < evaluate_library.SLOW_RESAMPLES
    assert score.signature.split("|")[2] == f"interval:percentile,200,undefined:{lost},seed=0"
    assert evaluate_library.compare_evaluate_metric(result, result) == {name: (0, 0, 0)}


def test_a_missing_path_raises_an_error() -> None:
    fix = "use a .py file, or a folder that contains a .py file of the same name"
    for location, file in (("./none", "none/none.py"), ("none.py", "none.py"), ("/no/such", "/no/such/such.py")):
        assert (
            get_error(f"evaluate:{location}", ["a"], ["a"]) == f"evaluate:{location}: no metric script '{file}'; {fix}"
        )
    assert evaluate_library.find_metric_script("evaluate:accuracy") is None


def test_an_unknown_hub_name_suggests_a_local_copy() -> None:
    assert get_error("evaluate:accuracy", ["good"], ["good"]) == (
        "evaluate:accuracy: the Hub has no such metric (HF_HUB_OFFLINE is set); "
        "a local copy of its folder works offline: evaluate:./accuracy"
    )


def test_a_changed_script_is_loaded_again() -> None:
    first = evaluate_library.run_evaluate_metric(write_metric(TEXT, SHARE), ["good"], ["bad"], ("bad", "good"))
    name = write_metric(TEXT, 'return {"mine": 7}')
    second = evaluate_library.run_evaluate_metric(name, ["good"], ["bad"], ("bad", "good"))
    assert (first.totals, second.totals) == ({name: 0.0}, {name: 7.0})
    assert first.digest != second.digest


@pytest.mark.slow
@pytest.mark.parametrize("body", [SHARE, EACH])
def test_differences_are_paired(body: str) -> None:
    name = write_metric(INTEGERS, body)
    true = ["good", "bad"] * 20
    worse = [*true[:30], *("bad" if one == "good" else "good" for one in true[30:])]
    one, two = (
        evaluate_library.run_evaluate_metric(name, true, predictions, ("bad", "good")) for predictions in (worse, true)
    )
    value, low, high = evaluate_library.compare_evaluate_metric(one, two)[name]
    assert value == 0.25
    assert 0 < low < value < high
    assert evaluate_library.compare_evaluate_metric(one, one)[name] == (0, 0, 0)


@pytest.mark.slow
def test_no_files_are_left_in_the_working_directory(tmp_path: Path) -> None:
    name = write_metric(TEXT, SHARE)
    home = tmp_path / "home"
    code = (
        "from llmkit.metrics.external import evaluate_library\n"
        f"evaluate_library.run_evaluate_metric({name!r}, ['a'], ['a'], ('a',))"
    )
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_CACHE")}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=kept | {"HF_HOME": str(home), "HOME": str(tmp_path / "user")}
    )
    assert sorted(path.name for path in Path().iterdir()) == ["home", "mine"]
    assert [path.name for path in Path("mine").iterdir()] == ["mine.py"]
