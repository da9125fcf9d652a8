"""Metric files in eval: scores, comparison, direction, name conflicts, and the rule on code named in a run's recipe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import llmkit
from llmkit import cli
from llmkit.errors import MissingInputError, UsageError
from llmkit.evaluation.foreign_metrics import check_metric_scripts, get_score_name, list_lower_is_better
from llmkit.runs import manifest
from llmkit.tasks.classify import Classify, ClassifyOptions
from llmkit.testing import make_reviews, write_jsonl

SHARE = """def share(references, predictions):
    return sum(a == b for a, b in zip(references, predictions)) / len(references)
"""
DISTANCE = SHARE.replace("share", "distance").replace("==", "!=") + "\n\ndistance.lower_is_better = True\n"


def write_metric(text: str, name: str = "share.py") -> str:
    Path(name).write_text(text, encoding="utf-8")
    return f"./{name}"


@pytest.mark.slow
def test_a_metric_file_is_scored_with_the_tasks_own_metrics_and_baselines(finished: Path) -> None:
    data = write_jsonl("o.jsonl", make_reviews(40, seed=8))
    shutil.copy(finished.parent / "reviews.jsonl", "reviews.jsonl")
    report = llmkit.evaluate(str(finished), data, metrics=["accuracy", write_metric(SHARE)])
    assert list(report["metrics"]) == ["accuracy", "share"]
    own, mine = report["metrics"].values()
    assert (mine["value"], mine["low"]) == pytest.approx((own["value"], own["low"]), abs=0.1)
    assert mine["signature"].startswith("share|sha256:")
    assert report["baselines"]["majority"]["share"]["value"] == report["baselines"]["majority"]["accuracy"]["value"]


@pytest.mark.slow
def test_models_are_compared_by_a_metric_file_with_its_direction(
    finished: Path, tiny_classifier: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = write_jsonl("o.jsonl", make_reviews(40, seed=8))
    name = write_metric(DISTANCE, "distance.py")
    found = llmkit.compare([str(finished), tiny_classifier], data, metrics=[name, "accuracy"])
    by = found["differences"][0]["metrics"]
    assert list(by) == ["distance", "accuracy"]
    assert by["distance"]["value"] == pytest.approx(-by["accuracy"]["value"])
    assert by["distance"]["low"] <= by["distance"]["value"] <= by["distance"]["high"]
    assert by["distance"]["low"] == pytest.approx(-by["accuracy"]["high"], abs=0.1)
    words = ["eval", tiny_classifier, str(finished), "--metric", name, "--data", data]
    assert cli.run_command_line(words) == 0
    assert f"{finished} is better than {tiny_classifier} in distance by " in capsys.readouterr().out


def test_a_metric_file_only_named_in_a_runs_recipe_is_not_run(
    finished: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(finished, "run"))
    recipe, manifest_file = run / "recipe.yaml", run / "run.json"
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text(text.replace("  metrics: []\n", "  metrics: [./evil.py, mcc]\n"), encoding="utf-8")
    known = json.loads(manifest_file.read_text(encoding="utf-8"))
    known["outputs"]["recipe.yaml"] = manifest.hash_file(recipe)
    manifest_file.write_text(json.dumps(known), encoding="utf-8")
    write_metric("from pathlib import Path\nPath('ran').touch()\n", "evil.py")
    data = write_jsonl("o.jsonl", make_reviews(20, seed=8))
    assert list(llmkit.evaluate(str(run), data)["metrics"]) == ["mcc"]
    assert "left out: ./evil.py, code that is only named in the run's recipe; --metric ./evil.py runs it\n" in (
        capsys.readouterr().err
    )
    assert not Path("ran").exists()


def test_a_missing_metric_file_is_reported_first() -> None:
    with pytest.raises(MissingInputError) as error:
        llmkit.evaluate("no/such/run", metrics=["./none.py"])
    assert str(error.value) == "./none.py: no metric file; name a .py file that defines the metric's function"


def test_a_failing_metric_file_exits_with_its_message(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_jsonl("o.jsonl", make_reviews(20, seed=8))
    name = write_metric("def share(references, predictions):\n    return references[0] / 2\n")
    assert cli.run_command_line(["eval", str(finished), "--metric", name, "--data", data]) == 65
    captured = capsys.readouterr()
    what = "share: TypeError: unsupported operand type(s) for /: 'str' and 'int'; fix the function"
    assert captured.err.endswith(f"error: ./share.py: {what}\n")
    assert captured.out == ""


def test_a_function_named_as_another_metric_is_rejected() -> None:
    name = write_metric(SHARE.replace("def share", "def accuracy"))
    with pytest.raises(UsageError) as error:
        check_metric_scripts([name], Classify())
    fix = "rename the function, and the file if it has the same name"
    assert str(error.value) == f"./share.py: another metric has the name accuracy too; {fix}"
    check_metric_scripts([name], Classify(ClassifyOptions(kind="regression")))
    Path("other").mkdir()
    names = [write_metric(SHARE), write_metric(SHARE, "other/share.py")]
    with pytest.raises(UsageError, match=r"^./share.py: another metric has the name share too; rename"):
        check_metric_scripts(names)


def test_direction_and_name_are_those_of_the_function() -> None:
    names = ["accuracy", write_metric(SHARE), write_metric(DISTANCE, "d.py"), "evaluate:x"]
    assert [get_score_name(name) for name in names] == ["accuracy", "share", "distance", "evaluate:x"]
    assert list_lower_is_better(Classify(), names) == [*Classify().lower_is_better, "distance"]
