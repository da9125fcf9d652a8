"""Run the commands and Python code of README.md and the guides as written.

A fence runs if the comment before it is `runs`, or `runs, exit 65` if the command must fail with the error messages of
the following fence. `file: NAME` writes the fence to a file. The data files of the pages are small here, and the default
model is tiny.
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

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
FENCE = re.compile(
    r"^<!-- (?P<mark>(?:runs|file)[^>]*) -->\n```(?P<kind>\w+)\n(?P<body>.*?)^```\n(?:```text\n(?P<printed>.*?)^```\n)?",
    re.MULTILINE | re.DOTALL,
)
BAD_FILES: dict[str, str | bytes] = {
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
    """Write every data file that the pages use."""
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
    for name, data in BAD_FILES.items():
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def run_page(name: str) -> Counter[str]:
    """Run the marked fences of a page in the current folder; return the numbers of commands, scripts and files."""
    counts: Counter[str] = Counter()
    text = (ROOT / name).read_text(encoding="utf-8")
    fences = list(FENCE.finditer(text))
    assert len(fences) == text.count("<!-- runs") + text.count("<!-- file"), f"{name}: a mark without its fence"
    for fence in fences:
        mark, body, printed = fence["mark"], fence["body"], fence["printed"] or ""
        if mark.startswith("file: "):
            Path(mark.removeprefix("file: ")).write_text(body, encoding="utf-8")
            counts["files"] += 1
        elif fence["kind"] == "python":
            with redirect_stdout(io.StringIO()):
                exec(compile(body, name, "exec"), {"__name__": "__main__"})
            counts["scripts"] += 1
        else:
            code = int(mark.partition("exit ")[2] or 0)
            messages = [message for line in body.splitlines() for message in run_command(line, code)]
            assert not code or messages == printed.splitlines(), (name, body)
            counts["commands"] += len(body.splitlines())
    return counts


def run_command(line: str, code: int) -> Iterator[str]:
    """Run one shell line through llmkit's command line entry point; return the error lines that it prints."""
    from llmkit.cli import run_command_line

    program, *arguments = shlex.split(line)
    assert program == "llmkit", line
    stdin = sys.stdin
    if "<" in arguments:
        *arguments, _, source = arguments
        stdin = Path(source).open(encoding="utf-8")  # noqa: SIM115 (closed below)
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "stdin", stdin)
        assert run_command_line(arguments) == code, (line, err.getvalue())
    if stdin is not sys.stdin:
        stdin.close()
        assert len([json.loads(prediction) for prediction in out.getvalue().splitlines()]) == 2
    return (message for message in err.getvalue().splitlines() if message.startswith(("error: ", "  ")))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, tiny: str) -> Iterator[Path]:
    """Return a folder with the data files of the pages; the default model is tiny."""
    folder = tmp_path_factory.mktemp("readme")
    write_files(folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("PACKAGED_MODEL", "FALLBACK_MODEL"):
            patch.setattr(f"llmkit.models.sources.model_ref.{name}", tiny)
        yield folder


@pytest.fixture(scope="module")
def readme(home: Path) -> Counter[str]:
    """Run the README once; the other pages use its runs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        return run_page("README.md")


def test_the_readme_runs(readme: Counter[str], home: Path) -> None:
    assert readme == {"commands": 22, "scripts": 1, "files": 1}
    assert sorted(path.name for path in (home / "runs").iterdir()) == [
        "again", "labels", "mlm", "own", "pairs", "python", "rating", "recipe", "reviews", "stars", "summaries",
    ]  # fmt: skip
    assert len((home / "predictions.jsonl").read_text(encoding="utf-8").splitlines()) == 60


@pytest.mark.usefixtures("readme")
def test_the_guide_to_models_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/models.md") == {"commands": 3}


@pytest.mark.usefixtures("readme")
def test_the_metric_in_one_function_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/metrics.md") == {"files": 1, "commands": 1}


@pytest.mark.usefixtures("readme")
def test_the_guide_to_numbers_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(home)
    assert run_page("docs/numbers.md") == {"commands": 2}


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
    assert run_page("docs/runs.md") == {"commands": 2, "scripts": 2}


def test_every_key_of_a_run_is_documented(readme: Counter[str], home: Path) -> None:
    guide = (ROOT / "docs" / "runs.md").read_text(encoding="utf-8")
    run = home / "runs" / "reviews"
    first = (run / "predictions.jsonl").read_text(encoding="utf-8").split("\n")[0]
    keys = {*(path.name for path in run.iterdir()), *json.loads(first)} - {"model", "review", "sentiment"}
    for name in ("metrics.json", "run.json"):
        keys |= json.loads((run / name).read_text(encoding="utf-8")).keys()
    assert sorted(key for key in keys if f"`{key}`" not in guide) == []


def test_the_task_in_one_file_trains_and_predicts(tiny: str) -> None:
    import llmkit

    assert run_page("docs/own-task.md") == {"files": 2}
    rows = [{"title": row["text"][:20], "body": row["text"], "label": row["label"]} for row in make_reviews(30)]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    keys = ("data.encoding=utf-8", "train.learning_rate=1e-3")
    run = llmkit.train("pairs.yaml", *keys, model=tiny, train="rows.jsonl", output_dir="run")
    assert run.report is not None
    assert list(run.report.baselines) == ["majority"]
    assert [row["prediction"] in ("bad", "good") for row in llmkit.predict("run", data="rows.jsonl")] == [True] * 30


def test_the_guide_to_pretraining_runs_without_any_download() -> None:
    import llmkit

    write_lines("corpus.txt", [*make_sentences(100), *(row["text"] for row in make_reviews(200))])
    write_lines("other.txt", [row["text"] for row in make_reviews(20, seed=1)])
    for name, seed in (("labeled.csv", 2), ("new.csv", 3)):
        write_lines(name, ["text,label", *(f"{row['text']},{row['label']}" for row in make_reviews(60, seed))])
    assert run_page("docs/pretraining.md") == {"files": 1, "commands": 10}
    assert sorted(path.name for path in Path("runs").iterdir()) == ["labeled", "mlm", "more", "zh"]
    at_end, in_word = llmkit.predict("runs/zh", ["我喜欢[MASK]", "我喜欢看[MASK]影。"])
    assert {"看", "听", "阅"} <= set(at_end["probabilities"])
    assert in_word["prediction"] == "我喜欢看电影。"


def test_every_quoted_error_is_checked() -> None:
    """An error message quoted outside the fence of its command would not be compared with the program."""
    for page in (ROOT / "README.md", ROOT / "docs" / "data.md"):
        text = page.read_text(encoding="utf-8")
        shown = re.findall(r"^error: .*$", text, re.MULTILINE)
        checked = [line for fence in FENCE.finditer(text) for line in (fence["printed"] or "").splitlines()]
        assert [line for line in shown if line not in checked] == []
