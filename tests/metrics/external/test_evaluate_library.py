"""Metrics of the evaluate library: what they get, what is read from their results, and what goes wrong in words."""

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


def metric(one: str, body: str, features: str = BOTH, name: str = "mine") -> str:
    """The name of a metric with this script in a folder of its own here."""
    Path(name).mkdir(exist_ok=True)
    text = SCRIPT.replace("{one}", one).replace("{features}", features).replace("{body}", body)
    Path(name, f"{name}.py").write_text(text, encoding="utf-8")
    return f"evaluate:./{name}"


def said(name: str, references: list, answers: list, labels: tuple[str, ...] = ("bad", "good")) -> str:
    with pytest.raises((DataError, NetworkError, MissingInputError)) as fault:
        evaluate_library.run_evaluate_metric(name, references, answers, labels)
    return str(fault.value)


def test_one_number_has_an_interval_and_a_signature(capsys: pytest.CaptureFixture[str]) -> None:
    name = metric(INTEGERS, SHARE)
    true, answers = ["good", "bad"] * 10, ["good", "good"] * 10
    scores = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, true, answers, ("bad", "good"))
    )
    (score,) = scores.values()
    digest = hashlib.sha256(Path("mine/mine.py").read_bytes()).hexdigest()[:12]
    assert list(scores) == [name]
    assert score.value == 0.5
    assert 0.2 < score.low < 0.5 < score.high < 0.8
    assert score.signature == f"evaluate:./mine|sha256:{digest}|interval:percentile,200,seed=0|evaluate 0.4.6"
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "noise" in heard.err


def test_without_intervals_nothing_is_computed_again(capsys: pytest.CaptureFixture[str]) -> None:
    name = metric(INTEGERS, SHARE)
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, ["good"], ["good"], ("bad", "good")), intervals=False
    ).values()
    assert score.value == 1
    assert np.isnan([score.low, score.high]).all()
    assert capsys.readouterr().err.count("noise") == 1


def test_a_list_of_one_number_a_row_has_the_interval_of_its_mean(capsys: pytest.CaptureFixture[str]) -> None:
    name = metric(TEXT, EACH)
    true, answers = ["good", "bad"] * 10, ["good", "good"] * 9 + ["good", "bad"]
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, true, answers, ("bad", "good"))
    ).values()
    right = np.array([float(a == b) for a, b in zip(true, answers, strict=True)])
    assert (score.value, score.low, score.high) == (
        0.55,
        *bootstrap_interval(make_mean_statistic(right), np.ones(20, np.int64)),
    )
    assert score.signature.split("|")[2] == "interval:bca,2000,seed=0"
    assert capsys.readouterr().err.count("noise") == 1


def test_several_numbers_have_keys_and_the_rest_is_left_out() -> None:
    body = 'return {"mine": 1, "precision": 0.5, "words": "x", "some": [1, 2], "ok": True, "each": [1.0] * 3}'
    measured = evaluate_library.run_evaluate_metric(metric(TEXT, body), ["a", "b", "a"], ["a", "a", "a"], ("a", "b"))
    assert measured.totals == {"evaluate:./mine": 1.0, "evaluate:./mine.precision": 0.5}
    assert list(measured.by_row) == ["evaluate:./mine.each"]


@pytest.mark.parametrize(
    ("one", "references", "labels", "wanted"),
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
def test_a_metric_gets_what_its_features_want(
    one: str, references: list, labels: tuple[str, ...], wanted: list
) -> None:
    name = metric(one, f'return {{"mine": float(predictions == references == {wanted!r})}}')
    assert evaluate_library.run_evaluate_metric(name, references, references, labels).totals == {name: 1.0}


@pytest.mark.parametrize(
    ("one", "references", "labels", "holds", "kind"),
    [
        (INTEGERS, [["good"]], ("good",), "integers", "lists of labels"),
        (f"datasets.Sequence({TEXT})", ["good"], ("good",), "lists of text", "labels"),
        (FLOATS, ["good"], ("good",), "numbers", "labels"),
        (INTEGERS, [1.0], (), "integers", "numbers"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(
    one: str, references: list, labels: tuple, holds: str, kind: str
) -> None:
    assert said(metric(one, SHARE), references, references, labels) == (
        f"evaluate:./mine: takes predictions: {holds} and references: {holds} (one a row), and these rows hold {kind}; "
        "name a metric for these"
    )


def test_of_several_forms_the_one_that_fits_is_taken() -> None:
    other = 'datasets.Features({"predictions": one, "references": datasets.Sequence(one)})'
    name = metric(TEXT, SHARE, f"[{other}, {BOTH}]")
    assert evaluate_library.run_evaluate_metric(name, ["good"], ["good"], ("good",)).totals == {name: 1.0}


SEVERAL = 'datasets.Features({"predictions": one, "references": datasets.Sequence(one)})'


def test_a_metric_of_texts_gets_several_references_a_row() -> None:
    """As bertscore takes them: lists where it can, else texts."""
    body = 'return {"mine": [float(a in b) for a, b in zip(predictions, references)]}'
    name = metric(TEXT, body, f"[{SEVERAL}, {BOTH}]")
    measured = evaluate_library.run_evaluate_metric(name, [["a", "b"], ["c"]], ["b", "d"], ())
    assert measured.by_row[name].tolist() == [1, 0]


def test_a_metric_of_one_reference_gets_it_where_every_row_has_one() -> None:
    name = metric(TEXT, SHARE)
    assert evaluate_library.run_evaluate_metric(name, [["a"], ["b"]], ["a", "a"], ()).totals == {name: 0.5}
    assert said(name, [["a"], ["b", "c"]], ["a", "a"], ()) == (
        "evaluate:./mine: takes predictions: text and references: text (one a row), and these rows hold lists of text; "
        "name a metric for these"
    )


def test_what_stands_behind_the_question_mark_is_told_to_the_metric() -> None:
    body = 'return {"mine": float((lang, idf, layers) == ("en", True, 9))}'
    name = metric(TEXT, body)
    text = (
        Path("mine/mine.py")
        .read_text()
        .replace("predictions, references)", "predictions, references, lang, idf=0, layers=0)")
    )
    Path("mine/mine.py").write_text(text)
    asked = f"{name}?lang=en&idf=true&layers=9"
    assert evaluate_library.run_evaluate_metric(asked, ["a"], ["a"], ()).totals == {asked: 1.0}
    assert said(name, ["a"], ["a"], ()).startswith("evaluate:./mine: TypeError: Mine._compute() missing 1 required")
    with pytest.raises(UsageError) as fault:
        evaluate_library.load_evaluate_metric("evaluate:./mine?lang")
    assert str(fault.value) == (
        "evaluate:./mine?lang: 'lang' is no KEY=VALUE; write evaluate:./mine?KEY=VALUE&KEY=VALUE"
    )


def test_other_inputs_are_refused() -> None:
    name = metric(FLOATS, SHARE, 'datasets.Features({"prediction_scores": one, "references": one})')
    assert said(name, ["good"], ["good"]) == (
        "evaluate:./mine: takes prediction_scores and references, not references and predictions; name another metric"
    )


def test_a_metric_that_fails_speaks_for_itself() -> None:
    assert said(metric(TEXT, 'raise ValueError("no\\nsuch thing")'), ["good"], ["good"]) == (
        "evaluate:./mine: ValueError: no such thing; mend the metric, or leave it out"
    )
    assert said(metric(TEXT, 'return {"mine": "many"}'), ["good"], ["good"]) == (
        "evaluate:./mine: gives no number; name a metric that does"
    )
    Path("mine/mine.py").write_text("1 / 0\n")
    assert said("evaluate:./mine", ["good"], ["good"]) == (
        "evaluate:./mine: ZeroDivisionError: division by zero; mend the metric, or leave it out"
    )


@pytest.mark.parametrize(
    ("act", "words"),
    [("raise SystemExit", "SystemExit"), ("exit('enough')", "SystemExit: enough"), ("assert 0", "AssertionError")],
)
def test_a_metric_that_leaves_takes_nobody_along(act: str, words: str) -> None:
    sentence = f"evaluate:./mine: {words}; mend the metric, or leave it out"
    assert said(metric(TEXT, act), ["good"], ["good"]) == sentence
    Path("mine/mine.py").write_text(f"{act}\n")
    assert said("evaluate:./mine", ["good"], ["good"]) == sentence


def test_a_metric_that_leaves_on_some_rows_is_undefined_there() -> None:
    name = metric(TEXT, f"if len(set(references)) < 2: raise SystemExit\n        {SHARE}")
    (score,) = evaluate_library.score_evaluate_metric(
        evaluate_library.run_evaluate_metric(name, ["good", "bad"], ["good", "bad"], ("bad", "good"))
    ).values()
    assert (score.value, score.low, score.high) == (1, 1, 1)


def test_an_interrupt_passes() -> None:
    with pytest.raises(KeyboardInterrupt):
        evaluate_library.run_evaluate_metric(metric(TEXT, "raise KeyboardInterrupt"), ["good"], ["good"], ("good",))


def test_rows_without_a_value_are_left_out_of_the_interval() -> None:
    name = metric(TEXT, f'assert len(set(references)) == 2, "one class"\n        {SHARE}')
    measured = evaluate_library.run_evaluate_metric(name, ["good", "bad"], ["good", "bad"], ("bad", "good"))
    (score,) = evaluate_library.score_evaluate_metric(measured).values()
    assert (score.value, score.low, score.high) == (1, 1, 1)
    drawn = np.concatenate(list(draw_resamples(np.ones(2, np.int64), evaluate_library.SLOW_RESAMPLES, seed=0)))
    lost = int((drawn == 2).any(axis=1).sum())
    assert 0 < lost < evaluate_library.SLOW_RESAMPLES
    assert score.signature.split("|")[2] == f"interval:percentile,200,undefined:{lost},seed=0"
    assert evaluate_library.compare_evaluate_metric(measured, measured) == {name: (0, 0, 0)}


def test_a_missing_path_is_named() -> None:
    mend = "name a .py file, or a folder with one of its name"
    for given, file in (("./none", "none/none.py"), ("none.py", "none.py"), ("/no/such", "/no/such/such.py")):
        assert said(f"evaluate:{given}", ["a"], ["a"]) == f"evaluate:{given}: no metric script '{file}'; {mend}"
    assert evaluate_library.find_metric_script("evaluate:accuracy") is None


def test_a_name_that_the_hub_does_not_give_names_the_local_way() -> None:
    assert said("evaluate:accuracy", ["good"], ["good"]) == (
        "evaluate:accuracy: the Hub gave no such metric (HF_HUB_OFFLINE is set); "
        "a copy of its folder here works offline: evaluate:./accuracy"
    )


def test_a_changed_script_is_loaded_again() -> None:
    first = evaluate_library.run_evaluate_metric(metric(TEXT, SHARE), ["good"], ["bad"], ("bad", "good"))
    name = metric(TEXT, 'return {"mine": 7}')
    second = evaluate_library.run_evaluate_metric(name, ["good"], ["bad"], ("bad", "good"))
    assert (first.totals, second.totals) == ({name: 0.0}, {name: 7.0})
    assert first.digest != second.digest


@pytest.mark.parametrize("body", [SHARE, EACH])
def test_differences_are_paired(body: str) -> None:
    name = metric(INTEGERS, body)
    true = ["good", "bad"] * 20
    worse = [*true[:30], *("bad" if one == "good" else "good" for one in true[30:])]
    one, two = (evaluate_library.run_evaluate_metric(name, true, answers, ("bad", "good")) for answers in (worse, true))
    value, low, high = evaluate_library.compare_evaluate_metric(one, two)[name]
    assert value == 0.25
    assert 0 < low < value < high
    assert evaluate_library.compare_evaluate_metric(one, one)[name] == (0, 0, 0)


def test_nothing_lands_beside_the_user(tmp_path: Path) -> None:
    name = metric(TEXT, SHARE)
    home = tmp_path / "home"
    code = f"from llmkit.metrics import outside; outside.measure({name!r}, ['a'], ['a'], ('a',))"
    kept = {key: value for key, value in os.environ.items() if not key.endswith("_CACHE")}
    subprocess.run(
        [sys.executable, "-c", code], check=True, env=kept | {"HF_HOME": str(home), "HOME": str(tmp_path / "user")}
    )
    assert sorted(path.name for path in Path().iterdir()) == ["home", "mine"]
    assert [path.name for path in Path("mine").iterdir()] == ["mine.py"]
