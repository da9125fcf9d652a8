"""Round-trip tests: files written by the standard library are read verbatim, and no bytes crash a reader."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llmkit.data.readers.read import FILE_EXTENSIONS, ReadOptions, read_rows
from llmkit.data.rows import Rows, format_json_line, parse_raw_json
from llmkit.errors import CONTROL_PATTERN, DataError

ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.text(ANY) | st.sampled_from(["NA", "", '"', "\r\n", "'", " a ", "\u202eאב", "e\u0301", "👩‍👩‍👧", "\ufeff"])
pairs = st.lists(st.tuples(texts, texts), min_size=1)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
few_examples = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def read_bytes(extension: str, data: bytes, options: ReadOptions = ReadOptions()) -> Rows:  # noqa: B008
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a" + extension)
        path.write_bytes(data)
        return read_rows(path, options=options)


@few_examples
@given(pairs, st.sampled_from(["\n", "\r\n"]), st.sampled_from(",;\t|"))
def test_csv_round_trip(expected, line_end, delimiter):
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator=line_end, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerows([("text", "label"), *expected])
    rows = read_bytes(".csv", stream.getvalue().encode(), ReadOptions(delimiter=delimiter))
    assert list(zip(rows.texts("text"), rows.texts("label"), strict=True)) == expected


@few_examples
@given(pairs)
def test_tsv_round_trip(expected):
    plain = [tuple(cell.replace("\t", " ").replace("\n", " ").rstrip("\r") for cell in pair) for pair in expected]
    data = "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in plain)
    rows = read_bytes(".tsv", data.encode())
    assert list(zip(rows.texts("text"), rows.texts("label"), strict=True)) == plain


@pytest.mark.slow
@few_examples
@given(st.lists(st.dictionaries(texts, values, min_size=1), min_size=1), st.booleans())
def test_json_lines_and_arrays_round_trip(expected, ascii_only):
    lines = [json.dumps(record, ensure_ascii=ascii_only) for record in expected]
    for extension, data in ((".jsonl", "\n".join(lines)), (".json", "[" + ",\n".join(lines) + "]")):
        rows = read_bytes(extension, data.encode())
        assert [parse_raw_json(record) for record in rows.records()] == expected
        assert [json.loads(format_json_line(record)) for record in rows.records()] == expected
        assert rows.lines.tolist() == list(range(1, len(expected) + 1))


corrupted = st.builds(
    lambda data, at, junk: data[:at] + junk + data[at:],
    st.sampled_from([b'text,label\n"a",b\nc,d\n', b'{"text": "a", "label": [1, {"b": null}]}\n', b'[{"text": "a"}]']),
    st.integers(0, 40),
    st.binary(max_size=6) | st.sampled_from([b'"', b"\\ud800", b"{", b"]", b"\r", b"\xef\xbb\xbf", b"\0", b"1" * 4301]),
)


def read_or_error(name: str, data: bytes, options: ReadOptions) -> Rows | DataError:
    try:
        return read_bytes(name, data, options)
    except DataError as error:  # any other exception is a bug
        return error


@pytest.mark.slow
@pytest.mark.parametrize("extension", FILE_EXTENSIONS)
@few_examples
@given(data=st.binary() | corrupted, encoding=st.sampled_from(["utf-8", "utf-16", "gb18030", "utf-7", "utf-8,cp1252"]))
def test_any_bytes_give_rows_or_a_data_error(extension, data, encoding):
    for name, file in ((extension, data), (extension + ".gz", gzip.compress(data)), (extension + ".zip", data)):
        result = read_or_error(name, file, ReadOptions(encoding=encoding))
        if isinstance(result, Rows):
            assert len(list(result.records())) == len(result) > 0
        else:
            lines = str(result).split("\n")
            assert re.match(rf".*/a{re.escape(name)}(:[0-9]+)*: .+; .+", lines[0])
            assert not any(map(CONTROL_PATTERN.search, lines))
