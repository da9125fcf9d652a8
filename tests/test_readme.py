"""The commands and the Python of README.md and the guides run as they are written.

A fence is run where the comment before it says so: `runs`, or `runs, exit 65` where the mistakes in the fence after it
are what must be printed. `file: NAME` writes the fence to a file. The files that the pages speak of are small ones
here, and the default model is a tiny one.
"""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from llmkit.testing import make_articles, make_reviews, make_sentences, write_jsonl, write_lines

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"^<!-- (?P<mark>(?:runs|file)[^>]*) -->\n```(?P<kind>\w+)\n(?P<body>.*?)^```\n(?:```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
MISTAKES: dict[str, str | bytes] = {
    "latin.csv": "text,label\nun café charmant,good\nbad,bad\n".encode("latin-1"),
    "ragged.csv": "text,label\nfine, really fine,good\ndull,bad\n",
    "semicolon.csv": "text;label\nfine;good\ndull;bad\n",
    "quote.csv": 'text,label\n"fine,good\ndull,bad\n',
    "broken.jsonl": '{"text": "fine", "label": "good"}\n{"text": "dull" "label": "bad"}\n',
    "kinds.jsonl": '{"text": "fine", "label": 1}\n{"text": "dull", "label": "0"}\n',
    "columns.csv": "id,words,verdict\n1,fine,good\n2,dull,bad\n",
    "empty-text.csv": "text,label\nfine,good\n,bad\n",
    "empty-label.csv": "text,label\nfine,good\ndull,\n",
    "train.csv": "text,label\n" + "".join(f"a film {i},{('bad', 'good')[i % 2]}\n" for i in range(40)),
    "typo.csv": "text,label\na film 1,good\nA  Film 2,bad\nnew words,god\n",
    "unsure.csv": "text,label\n" + "".join(f"a film {i},{i % 3}\n" for i in range(12)),
    "leak.csv": "text,label\na film 1,good\nA  Film 2,bad\nnew words,good\n",
}
LABELS = ("negative", "positive")


def write_files(folder: Path) -> None:
    """Every file that the pages name as there."""
    for name, seed in (("reviews.csv", 0), ("new.csv", 1)):
        with (folder / name).open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["review", "sentiment"])
            writer.writerows(row.values() for row in make_reviews(60, seed, LABELS))
    rows = make_reviews(60)
    write_jsonl(folder / "tickets.jsonl", [{"text": row["text"], "labels": [row["label"], "film"]} for row in rows])
    ratings = [f"{row['text']},{len(row['text'])}" for row in rows]
    (folder / "ratings.csv").write_text("\n".join(["text,rating", *ratings]) + "\n", encoding="utf-8")
    pairs = [f"{row['text']},a {row['label']} film,{i % 2}" for i, row in enumerate(rows)]
    (folder / "pairs.csv").write_text("\n".join(["question1,question2,label", *pairs]) + "\n", encoding="utf-8")
    stars = [f"{row['text']},{(1, 5, 3)[i % 3]} stars" for i, row in enumerate(rows)]
    (folder / "stars.csv").write_text("\n".join(["text,label", *stars]) + "\n", encoding="utf-8")
    write_jsonl(folder / "articles.jsonl", make_articles(40))
    write_jsonl(folder / "pairs.jsonl", [{"en": row["text"], "zh": row["summary"]} for row in make_articles(40)])
    (folder / "lines.txt").write_text("a warm and funny film\na dull , clumsy story\n", encoding="utf-8")
    (folder / "raw").mkdir()
    write_lines(folder / "raw" / "corpus.txt", make_sentences(200))
    for name, data in MISTAKES.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def run_page(name: str) -> Counter[str]:
    """Run the marked fences of a page in the current folder; how many commands, scripts and files there were."""
    done: Counter[str] = Counter()
    text = (ROOT / name).read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    assert len(fences) == text.count("<!-- runs") + text.count("<!-- file"), f"{name}: a mark without its fence"
    for fence in fences:
        mark, body, printed = fence["mark"], fence["body"], fence["printed"] or ""
        if mark.startswith("file: "):
            Path(mark.removeprefix("file: ")).write_text(body, encoding="utf-8")
            done["files"] += 1
        elif fence["kind"] == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(body, name, "exec"), {"__name__": "__main__"})
            done["scripts"] += 1
        else:
            code = int(mark.partition("exit ")[2] or 0)
            said = [mistake for line in body.splitlines() for mistake in run_command(line, code)]
            assert not code or said == printed.splitlines(), (name, body)
            done["commands"] += len(body.splitlines())
    return done


def run_command(line: str, code: int) -> Iterator[str]:
    """Run one line of shell through the command line's own door; the lines of the mistakes that it prints."""
    from llmkit.cli import run_command_line

    program, *words = shlex.split(line)
    assert program == "llmkit", line
    stdin = sys.stdin
    if "<" in words:
        *words, _, source = words
        stdin = Path(source).open(encoding="utf-8")  # noqa: SIM115 (closed below)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", stdin)
        assert run_command_line(words) == code, (line, err.getvalue())
    if stdin is not sys.stdin:
        stdin.close()
        assert len([json.loads(answer) for answer in out.getvalue().splitlines()]) == 2
    return (said for said in err.getvalue().splitlines() if said.startswith(("error: ", "  ")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Iterator[Path]:
    """A folder with the pages' files, where the default model is a tiny one."""
    folder = tmp_path_factory.mktemp("readme")
    write_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PACKAGED_MODEL", "FALLBACK_MODEL"):
            patch.setattr(f"llmkit.models.sources.model_ref.{name}", tiny)
        yield folder


@pytest.fixture(scope="module")
def readme(home: Path) -> Counter[str]:
    """The README, run: the other pages go on from its runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return run_page("README.md")


def test_the_readme_runs(readme: Counter[str], home: Path) -> None:
    assert readme == {"commands": 31, "scripts": 1, "files": 1}
    assert sorted(path.name for path in (home / "runs").iterdir()) == [
        "adapter", "again", "faster", "labels", "lstm", "mlm", "own", "pairs", "python", "rating", "recipe", "reviews",
        "stars", "summaries",
    ]  # fmt: skip
    assert len((home / "answers.jsonl").read_text(encoding="utf-8").splitlines()) == 60


def test_the_guide_to_sentiment_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/sentiment.md") == {"commands": 5, "scripts": 1}


@pytest.mark.usefixtures("readme")
def test_the_guide_to_generation_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/generation.md") == {"commands": 5}


def test_the_guide_to_data_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    before = sorted(home.iterdir())
    assert run_page("docs/data.md") == {"commands": 12}
    assert sorted(home.iterdir()) == before


def test_the_guide_to_runs_runs(readme: Counter[str], home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/runs.md") == {"scripts": 2}


def test_every_key_of_a_run_is_in_the_guide(readme: Counter[str], home: Path) -> None:
    guide = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    run = home / "runs" / "reviews"
    first = (run / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[0]
    keys = {*(path.name for path in run.iterdir()), *json.loads(first)} - {"model", "review", "sentiment"}
    for name in ("metrics.json", "run.json"):
        keys |= json.loads((run / name).read_text(encoding="utf-8")).keys()
    assert sorted(key for key in keys if f"`{key}`" not in guide) == []


def test_the_task_in_one_file_trains_and_answers(tiny: str) -> None:
    import llmkit

    assert run_page("docs/own-task.md") == {"files": 2}
    rows = [{"title": row["text"][:20], "body": row["text"], "label": row["label"]} for row in make_reviews(30)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = ("data.encoding=utf-8", "train.learning_rate=1e-3")
    run = llmkit.train("pairs.yaml", *keys, model=tiny, train="rows.jsonl", output_dir="run")
    assert run.report is not None
    assert list(run.report.baselines) == ["majority"]
    assert [row["answer"] in ("bad", "good") for row in llmkit.predict("run", data="rows.jsonl")] == [True] * 30


def test_the_guide_to_pretraining_runs_without_any_download() -> None:
    import llmkit

    write_lines("corpus.txt", [*make_sentences(100), *(row["text"] for row in make_reviews(200))])
    write_lines("other.txt", [row["text"] for row in make_reviews(20, seed=1)])
    for name, seed in (("labelled.csv", 2), ("new.csv", 3)):
        write_lines(name, ["text,label", *(f"{row['text']},{row['label']}" for row in make_reviews(60, seed))])
    assert run_page("docs/pretraining.md") == {"files": 1, "commands": 10}
    assert sorted(path.name for path in Path("runs").iterdir()) == ["labelled", "mlm", "more", "zh"]
    begun, within = llmkit.predict("runs/zh", ["我喜欢[MASK]", "我喜欢看[MASK]影。"])
    assert {"看", "听", "阅"} <= set(begun["probabilities"])
    assert within["answer"] == "我喜欢看电影。"


def test_every_transcript_of_a_mistake_is_checked() -> None:
    """An error line that stands in no fence of its own command would be believed without being run."""
    for page in (ROOT / "README.md", ROOT / "docs" / "data.md"):
        text = page.read_text(encoding="utf-8")
        shown = re.findall(r"^error: .*$", text, re.MULTILINE)
        checked = [line for fence in FENCE.finditer(text) for line in (fence["printed"] or "").splitlines()]
        assert [line for line in shown if line not in checked] == []
