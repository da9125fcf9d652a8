"""A corpus from end to end: what comes out, in which order, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import llmkit
from llmkit.data.cleaning import output, pool, run
from llmkit.data.cleaning.run import clean
from llmkit.data.corpus.documents import read_documents
from llmkit.errors import LlmkitError

from .conftest import texts


def kept(folder: str = "clean") -> list[dict[str, str]]:
    """The lines of the cleaned folder."""
    files = sorted(Path(folder).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def write(name: str, *lines: str) -> str:
    """A file of these lines."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def steps(about: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The steps of a report by name."""
    return {one["step"]: one for one in about["steps"]}


def refusal(*args: Any, **options: Any) -> str:
    """The sentence that refuses, after which nothing new is there."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(LlmkitError) as caught:
        clean(*args, **options)
    assert sorted(Path().rglob("*")) == before
    return str(caught.value)


def test_a_corpus_is_cleaned_and_each_step_is_counted() -> None:
    write("corpus/b.txt", "<p>Hello &amp; goodbye</p>", "", "same  line", "Same line")
    write("corpus/sub/a.txt", "schÃ¶n", "\u200b")
    write("corpus/page.html", "<html><body><p>One", "page</p><p>of two lines</p></body></html>")
    about = llmkit.clean("corpus", "clean")
    assert kept() == [
        {"text": "Hello & goodbye", "source": "corpus/b.txt:1"},
        {"text": "same line", "source": "corpus/b.txt:3"},
        {"text": "One page\nof two lines", "source": "corpus/page.html:1"},
        {"text": "schön", "source": "corpus/sub/a.txt:1"},
    ]
    assert about == json.loads(Path("clean/report.json").read_text(encoding="utf-8"))
    assert about["documents"] == {"read": 6, "kept": 4}
    found = steps(about)
    assert (found["html"]["documents_changed"], found["html"]["changed_in"]) == (
        2,
        ["corpus/b.txt:1", "corpus/page.html:1"],
    )
    assert found["broken"]["characters_removed"] == 1
    assert found["empty"]["dropped"] == [{"source": "corpus/sub/a.txt:2", "why": "nothing is left", "text": ""}]
    assert found["duplicates"]["dropped"] == [
        {"source": "corpus/b.txt:4", "why": "the same text came before", "text": "Same line"}
    ]
    assert about["options"]["steps"] == [
        "html",
        "broken",
        "control",
        "form",
        "whitespace",
        "empty",
        "duplicates",
        "near",
    ]
    assert set(about["versions"]) == {"llmkit", "selectolax", "ftfy", "regex", "datasketch", "unicode"}


def test_the_folder_reads_back_to_the_same_documents() -> None:
    write(
        "in.jsonl",
        *(json.dumps({"text": text}) for text in ["one\n\ntwo\nlines", '"quoted" \\ 你好\u2029x', "# three"]),
    )
    clean("in.jsonl", "clean", only=["duplicates"])
    back = [(one.text, one.name, one.number) for one in read_documents("clean")]
    assert back == [
        ("one\n\ntwo\nlines", "clean/text-00001.jsonl", 1),
        ('"quoted" \\ 你好\u2029x', "clean/text-00001.jsonl", 2),
        ("# three", "clean/text-00001.jsonl", 3),
    ]


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts(), min_size=1, max_size=4))
def test_cleaning_again_changes_nothing(tmp_path: Path, parts: list[str]) -> None:
    home = Path(tmp_path / str(len(list(tmp_path.iterdir()))))
    home.mkdir()
    (home / "in.jsonl").write_text("".join(json.dumps({"text": f"begin {p}"}) + "\n" for p in parts), encoding="utf-8")
    first = clean(home / "in.jsonl", home / "one")
    second = clean(home / "one", home / "two")
    assert [d.text for d in read_documents(home / "two")] == [d.text for d in read_documents(home / "one")]
    assert second["documents"]["read"] == second["documents"]["kept"] == first["documents"]["kept"]
    assert all(one["documents_changed"] == 0 for one in second["steps"])


def test_the_number_of_workers_changes_no_byte(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ALONE", 1)
    monkeypatch.setattr(run, "PIECE", 500)
    write("in.txt", *corpus, *(f"<b>{text}</b> at the end" for text in corpus), corpus[3])
    one = clean("in.txt", "one", workers=1)
    assert clean("in.txt", "three", workers=3) == one
    assert (one["documents"], steps(one)["near"]["documents_dropped"]) == ({"read": 41, "kept": 20}, 20)
    for name in ("text-00001.jsonl", "report.json"):
        assert Path("one", name).read_bytes() == Path("three", name).read_bytes()


def test_the_first_of_equal_documents_stays_in_the_order_of_the_names() -> None:
    for name in ("b.txt", "a.txt", "c.txt"):
        write(f"corpus/{name}", "the same")
    clean("corpus", "clean")
    assert kept() == [{"text": "the same", "source": "corpus/a.txt:1"}]
    clean(["corpus/c.txt", "corpus/a.txt"], "other")
    assert kept("other") == [{"text": "the same", "source": "corpus/c.txt:1"}]


def test_documents_are_lines_blocks_or_files() -> None:
    write("in.txt", "one", "two", "", "three")
    for unit, expected in (
        ("line", ["one", "two", "three"]),
        ("block", ["one\ntwo", "three"]),
        ("file", ["one\ntwo\n\nthree"]),
    ):
        clean("in.txt", unit, document=unit)  # type: ignore[arg-type]
        assert [one["text"] for one in kept(unit)] == expected


def test_filters_and_added_steps() -> None:
    write("in.txt", "Short.", "This Sentence is Long, isn't it?", "Это предложение длинное.", "1 2 3 4 5")
    about = clean(
        "in.txt", "clean", words="2:", script=["latin"], also=["lowercase", "punctuation"], stop_words="english"
    )
    assert [one["text"] for one in kept()] == ["sentence long isnt"]
    assert [steps(about)[name]["documents_dropped"] for name in ("words", "script")] == [1, 2]


def test_a_large_corpus_is_cut_into_files(monkeypatch: pytest.MonkeyPatch, corpus: list[str]) -> None:
    monkeypatch.setattr(output.TextWriter.__init__, "__defaults__", (1000,))
    write("in.txt", *corpus)
    clean("in.txt", "clean")
    assert len(list(Path("clean").glob("text-000*.jsonl"))) == 7
    assert [one.text for one in read_documents("clean")] == corpus


def test_packed_files_and_other_encodings() -> None:
    Path("in.txt.gz").write_bytes(gzip.compress("café\n".encode("cp1252")))
    clean("in.txt.gz", "clean", encoding="cp1252")
    assert kept() == [{"text": "café", "source": "in.txt.gz:1"}]


def test_an_empty_folder_may_stand_there() -> None:
    write("in.txt", "text")
    Path("clean").mkdir()
    clean("in.txt", "clean")
    assert [path.name for path in sorted(Path("clean").iterdir())] == ["report.json", "text-00001.jsonl"]


def test_nothing_left_is_said_with_the_steps_that_dropped_it() -> None:
    write("in.txt", "one", "two words", "\u200b")
    assert refusal("in.txt", "clean", words="5:") == (
        "no text left: 3 documents dropped, 1 by empty, 2 by words; loosen that step, or leave it out\n"
        "  in.txt:3: empty: nothing is left: \n"
        "  in.txt:1: words: 1 word, fewer than 5: one\n"
        "  in.txt:2: words: 2 words, fewer than 5: two words"
    )


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"words": "20"}, "--words 20: not a range; write LEAST:MOST, such as --words 20: or --words 20:5000"),
        ({"chars": "20:10"}, "--chars 20:10: 20 is above 10; write the smaller number first"),
        ({"near": 1.5}, "--near 1.5: out of range; it must be from 0.1 to 0.99; --skip near keeps similar documents"),
        ({"form": "NFD"}, "--form NFD: unknown; write NFC or NFKC"),
        ({"document": "lines"}, "--document lines: unknown; did you mean 'line'?"),
        ({"workers": 0}, "--workers 0: out of range; it must be at least 1"),
        (
            {"script": ["chinese"]},
            "--script chinese: no script has that name; it is a language, name its script: han",
        ),
        ({"skip": ["htm"]}, "--skip htm: not a step that can be switched; did you mean 'html'?"),
        ({"encoding": "utf8x"}, "data.encoding: no text encoding is called 'utf8x'; did you mean 'utf-8'?"),
    ],
)
def test_a_wrong_option_is_said_before_anything_is_written(options: dict[str, Any], sentence: str) -> None:
    write("in.txt", "text")
    assert refusal("in.txt", "clean", **options) == sentence


def test_wrong_sources_and_folders() -> None:
    write("in.txt", "text")
    write("full/x", "x")
    Path("empty.txt").write_text("\n \n", encoding="utf-8")
    Path("latin.txt").write_bytes("gut\nschön\n".encode("cp1252"))
    assert refusal("in.txt", "full") == "full: not empty; name another --output-dir, or remove it"
    assert refusal("in.txt", "in.txt") == "in.txt: a file with this name exists; name another --output-dir, or remove it"
    assert refusal(["in.txt", "none.txt"], "clean").startswith("none.txt: no such file")
    assert refusal("empty.txt", "clean") == "the corpus holds no text; name files with texts in them"
    assert refusal(["in.txt", "latin.txt"], "new/clean") == (
        "latin.txt:2: byte 0xf6 is not UTF-8; it looks like cp1252: --encoding cp1252 reads it"
    )


def test_ctrl_c_leaves_nothing_and_says_so(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write("in.txt", "text")

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(output.TextWriter, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clean("in.txt", "clean")
    assert capsys.readouterr().err == "nothing was written to clean\n"
    assert [path.name for path in Path().iterdir()] == ["in.txt"]
