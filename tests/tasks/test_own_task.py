"""A whole task in one file of the user's own: trained, judged, reloaded and used by the same commands as ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import llmkit
from llmkit.errors import RecipeError
from llmkit.testing import write_jsonl

SOURCE = '''
"""How many stars: a number from 1 to 5 from a text."""

from __future__ import annotations

from llmkit.metrics import Score
from llmkit.recipe.schema import Section
from llmkit.tasks.base import Answer, Encoded, Head, Task


class StarsOptions(Section):
    scale: float = 5.0
    """The best there is."""


class Stars(Task):
    columns = {"text": "a review", "label": "its stars"}
    target = "label"
    metrics = ("mae",)
    known_metrics = ("mae",)
    lower_is_better = ("mae",)
    Options = StarsOptions

    def fit(self, train, others):
        return []

    def adopt(self, config):
        pass

    def model(self):
        return Head("AutoModelForSequenceClassification", {"num_labels": 1, "problem_type": "regression"})

    def encode(self, rows, tokenizer, max_length):
        from llmkit.models import tokens

        features, cut = tokens.encode(tokenizer, rows.texts("text"), max_length)
        if "label" in rows.words:
            for feature, stars in zip(features, self.references(rows), strict=True):
                feature["labels"] = stars / self.options.scale
        return Encoded(features, cut)

    def collator(self, tokenizer):
        import torch

        from llmkit.models import tokens

        def collate(features):
            batch = tokens.pad(tokenizer, features)
            if "labels" in features[0]:
                batch["labels"] = torch.tensor([feature["labels"] for feature in features])
            return batch

        return collate

    def loss(self, outputs, batch):
        return ((outputs.logits.float().squeeze(-1) - batch["labels"]) ** 2).sum()

    def predict(self, model, batch):
        inputs = {key: value for key, value in batch.items() if key != "labels"}
        return model(**inputs).logits.float().squeeze(-1).tolist()

    def decode(self, outputs, features):
        return [Answer(round(value * self.options.scale, 4)) for value in outputs]

    def references(self, rows):
        return [float(label) for label in rows.texts("label")]

    def score(self, names, references, answers):
        import numpy as np

        from llmkit.metrics.intervals import bootstrap

        errors = np.abs(np.array(references) - np.array(answers))
        low, high = bootstrap(lambda counts: counts @ errors / counts.sum(axis=1), np.ones(len(errors), dtype=int))
        return {"mae": Score(float(errors.mean()), float(low), float(high), "mae|interval:bca,2000,seed=0")}
'''


@pytest.fixture
def run(tiny: str) -> llmkit.training.run.Run:  # type: ignore[name-defined]
    Path("stars.py").write_text(SOURCE, encoding="utf-8")
    rows = [{"text": f"{'great ' * (i % 3)}{'dull ' * (2 - i % 3)}film {i}", "label": 1 + 2 * (i % 3)} for i in range(60)]
    return llmkit.train(
        None, "train.learning_rate=5e-3", "train.per_device_train_batch_size=8", "stars.scale=5.0",
        task="./stars.py", model=tiny, train=write_jsonl("r.jsonl", rows), epochs=6.0, output_dir="run",
    )  # fmt: skip


def test_a_task_of_ones_own_does_all_that_ours_do(run: llmkit.training.run.Run) -> None:  # type: ignore[name-defined]
    assert run.report.metrics["mae"].value < 1.0
    events = [json.loads(line) for line in Path("run/log.jsonl").read_text(encoding="utf-8").splitlines()]
    scores = [event["eval_mae"] for event in events if "eval_mae" in event]
    assert len(scores) == 6
    (one,) = llmkit.predict("run", "great great film")
    assert set(one) == {"text", "answer"}
    assert one["answer"] > llmkit.predict("run", "dull dull film")[0]["answer"]
    assert llmkit.evaluate("run")["metrics"] == json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["metrics"]
    about = json.loads(Path("run/run.json").read_text(encoding="utf-8"))
    assert about["task_file"]["path"] == "stars.py"


def test_a_changed_task_file_is_run_only_when_it_is_named_again(run: llmkit.training.run.Run) -> None:  # type: ignore[name-defined]
    Path("stars.py").write_text(SOURCE + "\nraise SystemExit('never run me')\n", encoding="utf-8")
    with pytest.raises(RecipeError) as fault:
        llmkit.predict("run", "great film")
    assert str(fault.value) == "run: its task file stars.py is gone or changed; name it again with --task stars.py"
    Path("stars.py").write_text(SOURCE + "\n# a harmless change\n", encoding="utf-8")
    assert llmkit.predict("run", "great film", task="./stars.py")[0]["answer"]
