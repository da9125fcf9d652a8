"""A metric file in a recipe: it chooses the best checkpoint, is recorded, and a changed file is not resumed with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import llmkit
from llmkit.errors import OutputError, RecipeError
from llmkit.runs.manifest import hash_file
from llmkit.testing import make_reviews, write_jsonl
from llmkit.training.trainer import StepTrainer

pytestmark = pytest.mark.slow

# The value counts the evaluations, so that the first is the best if lower is better, and else the last.
COUNTING = """from pathlib import Path

def count(references, predictions):
    calls = Path("calls")
    calls.write_text(calls.read_text() + "." if calls.exists() else ".")
    return len(calls.read_text())

count.resamples = 5
"""
LOWER = "count.lower_is_better = True\n"


def train(tiny: str, *keys: str) -> Any:
    return llmkit.train(
        None, "eval.metrics=[./count.py, accuracy]", "eval.baselines=[]", "train.max_steps=3",
        "train.eval_strategy=steps", "train.eval_steps=1", "train.save_strategy=steps", "train.save_steps=1", *keys,
        task="classify", model=tiny, train=write_jsonl("r.jsonl", make_reviews(60)), output_dir="run",
    )  # fmt: skip


@pytest.mark.parametrize(("lines", "best"), [("", 3), (LOWER, 1)])
def test_a_metric_file_chooses_the_best_checkpoint_in_its_direction(
    tiny: str, lines: str, best: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    stock = StepTrainer.train

    def train_and_record(self: StepTrainer) -> Any:
        result = stock(self)
        steps.append(Path(str(self.state.best_model_checkpoint)).name)
        return result

    monkeypatch.setattr(StepTrainer, "train", train_and_record)
    Path("count.py").write_text(COUNTING + lines, encoding="utf-8")
    run = train(tiny)
    assert steps == [f"checkpoint-{best}"]
    assert list(run.scores()["metrics"]) == ["count", "accuracy"]
    record = json.loads((run.path / "run.json").read_text(encoding="utf-8"))
    assert record["metric_files"] == [{"path": "./count.py", "sha256": hash_file(Path("count.py"))}]
    logged = [json.loads(line) for line in (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [one["eval_count"] for one in logged if "eval_count" in one] == [1, 2, 3]


def test_early_stopping_follows_the_direction(tiny: str) -> None:
    Path("count.py").write_text(COUNTING + LOWER, encoding="utf-8")
    run = train(tiny, "eval.early_stopping_patience=1")
    lines = (run.path / "log.jsonl").read_text(encoding="utf-8").splitlines()
    assert sum("eval_count" in json.loads(line) for line in lines) == 2


def test_a_changed_metric_file_is_not_resumed_with(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("count.py").write_text(COUNTING, encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("llmkit.training.run.calibrate_task", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            train(tiny)
    Path("count.py").write_text(COUNTING + "# changed\n", encoding="utf-8")
    with pytest.raises(OutputError, match=r"metric \./count\.py"):
        train(tiny)
    with pytest.raises(RecipeError) as error:
        llmkit.train(resume="run")
    assert str(error.value).startswith("run: its metric file ./count.py is inside the run folder, missing or changed")
    Path("count.py").write_text(COUNTING, encoding="utf-8")
    assert list(llmkit.train(resume="run").scores()["metrics"]) == ["count", "accuracy"]
