"""Cleaning of whole corpora: output, order and errors."""

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


def read_cleaned(folder: str = "clean") -> list[dict[str, str]]:
    """Read the lines of the cleaned folder."""
    files = sorted(Path(folder).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text(encoding="utf-8").splitlines()]


def write_file(name: str, *lines: str) -> str:
    """Write a file of these lines."""
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return name


def index_steps(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Index the steps of a report by name."""
    return {one["step"]: one for one in report["steps"]}


def error_of_clean(*args: Any, **options: Any) -> str:
    """Return the error message of clean after checking that it wrote no file."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(LlmkitError) as caught:
        clean(*args, **options)
    assert sorted(Path().rglob("*")) == before
    return str(caught.value)


def test_a_corpus_is_cleaned_and_each_step_is_counted() -> None:
    write_file("corpus/b.txt", "<p>Hello &amp; goodbye</p>", "", "same  line", "Same line")
    write_file("corpus/sub/a.txt", "schÃ¶n", "\u200b")
    write_file("corpus/page.html", "<html><body><p>One", "page</p><p>of two lines</p></body></html>")
    report = llmkit.clean("corpus", "clean")
    assert read_cleaned() == [
        {"text": "Hello & goodbye", "source": "corpus/b.txt:1"},
        {"text": "same line", "source": "corpus/b.txt:3"},
        {"text": "One page\nof two lines", "source": "corpus/page.html:1"},
        {"text": "schön", "source": "corpus/sub/a.txt:1"},
    ]
    assert report == json.loads(Path("clean/report.json").read_text(encoding="utf-8"))
    assert report["documents"] == {"read": 6, "kept": 4}
    by_step = index_steps(report)
    assert (by_step["html"]["documents_changed"], by_step["html"]["changed_in"]) == (
        2,
        ["corpus/b.txt:1", "corpus/page.html:1"],
    )
    assert by_step["broken"]["characters_removed"] == 1
    assert by_step["empty"]["dropped"] == [{"source": "corpus/sub/a.txt:2", "why": "nothing is left", "text": ""}]
    assert by_step["duplicates"]["dropped"] == [
        {"source": "corpus/b.txt:4", "why": "the same text came before", "text": "Same line"}
    ]
    assert report["options"]["steps"] == [
        "html",
        "broken",
        "control",
        "form",
        "whitespace",
        "empty",
        "duplicates",
        "near",
    ]
    assert set(report["versions"]) == {"llmkit", "selectolax", "ftfy", "regex", "datasketch", "unicode"}


def test_the_output_folder_is_read_back_unchanged() -> None:
    write_file(
        "in.jsonl",
        *(json.dumps({"text": text}) for text in ["one\n\ntwo\nlines", '"quoted" \\ 你好\u2029x', "# three"]),
    )
    clean("in.jsonl", "clean", only=["duplicates"])
    documents = [(one.text, one.name, one.number) for one in read_documents("clean")]
    assert documents == [
        ("one\n\ntwo\nlines", "clean/text-00001.jsonl", 1),
        ('"quoted" \\ 你好\u2029x', "clean/text-00001.jsonl", 2),
        ("# three", "clean/text-00001.jsonl", 3),
    ]


@pytest.mark.slow
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(texts(), min_size=1, max_size=4))
def test_cleaning_is_idempotent(tmp_path: Path, parts: list[str]) -> None:
    folder = Path(tmp_path / str(len(list(tmp_path.iterdir()))))
    folder.mkdir()
    (folder / "in.jsonl").write_text(
        "".join(json.dumps({"text": f"begin {p}"}) + "\n" for p in parts), encoding="utf-8"
    )
    first = clean(folder / "in.jsonl", folder / "one")
    second = clean(folder / "one", folder / "two")
    assert [d.text for d in read_documents(folder / "two")] == [d.text for d in read_documents(folder / "one")]
    assert second["documents"]["read"] == second["documents"]["kept"] == first["documents"]["kept"]
    assert all(one["documents_changed"] == 0 for one in second["steps"])


def test_the_number_of_workers_does_not_change_the_output(corpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MIN_POOL_ITEMS", 1)
    monkeypatch.setattr(run, "BATCH_CHARS", 500)
    write_file("in.txt", *corpus, *(f"<b>{text}</b> at the end" for text in corpus), corpus[3])
    one = clean("in.txt", "one", workers=1)
    assert clean("in.txt", "three", workers=3) == one
    assert (one["documents"], index_steps(one)["near"]["documents_dropped"]) == ({"read": 41, "kept": 20}, 20)
    for name in ("text-00001.jsonl", "report.json"):
        assert Path("one", name).read_bytes() == Path("three", name).read_bytes()


def test_the_first_of_equal_documents_in_order_is_kept() -> None:
    for name in ("b.txt", "a.txt", "c.txt"):
        write_file(f"corpus/{name}", "the same")
    clean("corpus", "clean")
    assert read_cleaned() == [{"text": "the same", "source": "corpus/a.txt:1"}]
    clean(["corpus/c.txt", "corpus/a.txt"], "other")
    assert read_cleaned("other") == [{"text": "the same", "source": "corpus/c.txt:1"}]


def test_documents_are_lines_blocks_or_whole_files() -> None:
    write_file("in.txt", "one", "two", "", "three")
    for unit, expected in (
        ("line", ["one", "two", "three"]),
        ("block", ["one\ntwo", "three"]),
        ("file", ["one\ntwo\n\nthree"]),
    ):
        clean("in.txt", unit, document=unit)  # type: ignore[arg-type]
        assert [one["text"] for one in read_cleaned(unit)] == expected


def test_filters_and_additional_steps() -> None:
    write_file("in.txt", "Short.", "This Sentence is Long, isn't it?", "Это предложение длинное.", "1 2 3 4 5")
    report = clean(
        "in.txt", "clean", words="2:", script=["latin"], also=["lowercase", "punctuation"], stop_words="english"
    )
    assert [one["text"] for one in read_cleaned()] == ["sentence long isnt"]
    assert [index_steps(report)[name]["documents_dropped"] for name in ("words", "script")] == [1, 2]


def test_a_large_corpus_is_split_into_files(monkeypatch: pytest.MonkeyPatch, corpus: list[str]) -> None:
    monkeypatch.setattr(output.TextWriter.__init__, "__defaults__", (1000,))
    write_file("in.txt", *corpus)
    clean("in.txt", "clean")
    assert len(list(Path("clean").glob("text-000*.jsonl"))) == 7
    assert [one.text for one in read_documents("clean")] == corpus


def test_gzipped_files_and_other_encodings_are_read() -> None:
    Path("in.txt.gz").write_bytes(gzip.compress("café\n".encode("cp1252")))
    clean("in.txt.gz", "clean", encoding="cp1252")
    assert read_cleaned() == [{"text": "café", "source": "in.txt.gz:1"}]


def test_an_empty_output_folder_is_allowed() -> None:
    write_file("in.txt", "text")
    Path("clean").mkdir()
    clean("in.txt", "clean")
    assert [path.name for path in sorted(Path("clean").iterdir())] == ["report.json", "text-00001.jsonl"]


def test_an_empty_result_names_the_steps_that_dropped_texts() -> None:
    write_file("in.txt", "one", "two words", "\u200b")
    assert error_of_clean("in.txt", "clean", words="5:") == (
        "no text left: 3 documents dropped, 1 by empty, 2 by words; loosen that step, or leave it out\n"
        "  in.txt:3: empty: nothing is left: \n"
        "  in.txt:1: words: 1 word, fewer than 5: one\n"
        "  in.txt:2: words: 2 words, fewer than 5: two words"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"words": "20"}, "--words 20: not a range; write MIN:MAX, such as --words 20: or --words 20:5000"),
        ({"chars": "20:10"}, "--chars 20:10: 20 is above 10; write the smaller number first"),
        ({"near": 1.5}, "--near 1.5: out of range; it must be from 0.1 to 0.99; --skip near keeps similar documents"),
        ({"form": "NFD"}, "--form NFD: unknown; write NFC or NFKC"),
        ({"document": "lines"}, "--document lines: unknown; did you mean 'line'?"),
        ({"workers": 0}, "--workers 0: out of range; it must be at least 1"),
        (
            {"script": ["chinese"]},
            "--script chinese: no script has that name; it is a language, name its script: han",
        ),
        ({"skip": ["htm"]}, "--skip htm: not a step that can be switched on or off; did you mean 'html'?"),
        ({"encoding": "utf8x"}, "data.encoding: no text encoding is called 'utf8x'; did you mean 'utf-8'?"),
    ],
)
def test_wrong_options_are_rejected_before_anything_is_written(options: dict[str, Any], message: str) -> None:
    write_file("in.txt", "text")
    assert error_of_clean("in.txt", "clean", **options) == message


def test_wrong_sources_and_folders_are_rejected() -> None:
    write_file("in.txt", "text")
    write_file("full/x", "x")
    Path("empty.txt").write_text("\n \n", encoding="utf-8")
    Path("latin.txt").write_bytes("gut\nschön\n".encode("cp1252"))
    assert error_of_clean("in.txt", "full") == "full: not empty; name another --output-dir, or remove it"
    assert (
        error_of_clean("in.txt", "in.txt")
        == "in.txt: a file with this name exists; name another --output-dir, or remove it"
    )
    assert error_of_clean(["in.txt", "none.txt"], "clean").startswith("none.txt: no such file")
    assert error_of_clean("empty.txt", "clean") == "the corpus holds no text; name files with texts in them"
    assert error_of_clean(["in.txt", "latin.txt"], "new/clean") == (
        "latin.txt:2: byte 0xf6 is not UTF-8; it looks like cp1252: --encoding cp1252 reads it"
    )


def test_ctrl_c_leaves_no_output_and_prints_a_message(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_file("in.txt", "text")

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(output.TextWriter, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        clean("in.txt", "clean")
    assert capsys.readouterr().err == "nothing was written to clean\n"
    assert [path.name for path in Path().iterdir()] == ["in.txt"]
