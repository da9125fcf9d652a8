"""Every shipped recipe through its real command, in a process of its own, on a tiny model."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.recipe import catalog
from llmkit.testing import reviews, write_jsonl, write_lines

ROWS = reviews(40)
# What each recipe's data is called and holds where it is no package: made here, small.
FILES = {
    "classify/own-file": ("reviews.csv", ROWS),
    "classify/imbalanced": ("tickets.csv", ROWS),
    "classify/lstm": ("reviews.csv", ROWS),
    "classify/multi-label": ("tickets.jsonl", [{"text": row["text"], "labels": [row["label"]]} for row in ROWS]),
    "classify/pairs": (
        "pairs.jsonl",
        [{"premise": row["text"], "hypothesis": f"it is {row['label']}", "label": row["label"]} for row in ROWS],
    ),
    "classify/regression": (
        "ratings.csv",
        [{"text": row["text"], "rating": str(len(row["text"]))} for row in ROWS],
    ),
}
CORPORA = {"mlm/continue": "corpus.txt", "mlm/from-scratch": "corpus.txt", "mlm/three-sentences": "three.txt"}
RECIPES = ["classify/bbc-headlines", *sorted(FILES), *CORPORA]
COMMANDS = {"classify": "finetune-classify", "mlm": "pretrain-mlm"}
TOKENIZERS = {"mlm/from-scratch": "tok", "mlm/three-sentences": "zh"}  # their weights are fresh: no model is named
OWN_MODEL = ("classify/lstm",)  # it is what the recipe is about
UNSCORED = ("mlm/three-sentences",)  # nothing is held back


def test_every_shipped_recipe_is_smoked() -> None:
    assert sorted(catalog.listed()) == sorted(RECIPES)
    assert len(RECIPES) == 10


@pytest.mark.smoke
@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, tiny: str) -> None:
    if name in FILES:
        file, rows = FILES[name]
        if file.endswith(".jsonl"):
            write_jsonl(file, rows)
        else:
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            Path(file).write_text("\n".join(lines), encoding="utf-8")
    if name in CORPORA:
        write_lines(CORPORA[name], [row["text"] for row in ROWS])
    command, model = COMMANDS[name.split("/")[0]], [] if name in OWN_MODEL else ["--model", tiny]
    if name in TOKENIZERS:
        shutil.copytree(tiny, TOKENIZERS[name])
        model = []
    words = [command, name, *model, "train.max_steps=2", "--output-dir", "run"]
    done = subprocess.run([sys.executable, "-m", "llmkit", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    if name not in UNSCORED:
        assert "scores with 95 % intervals" in done.stdout
        assert json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["n"] > 0
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"]
