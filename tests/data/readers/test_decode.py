"""Tests of decompression, decoding and encoding detection."""

from __future__ import annotations

import gzip
import io
import zipfile

import pytest

from llmkit.data.readers.decode import decode_text
from llmkit.data.readers.detect_encoding import detect_encoding
from llmkit.errors import RecipeError

CHINESE = "text,label\n这部电影非常好看,我喜欢\n很好吃,下次还来\n"
READ_BY = "it looks like {0}: data.encoding={0} reads it"
NO_NUL = "text cannot contain it: remove it"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("text,label\ncafé,1\n".encode("latin-1"), "a.csv:2: byte 0xe9 is not UTF-8; " + READ_BY.format("cp1252")),
        ("text,label\ngood,1\n".encode("utf-16"), "a.csv:1: byte 0xff is not UTF-8; " + READ_BY.format("utf-16")),
        ("text,label\ngood,1\n".encode("utf-16-le"), "a.csv:1: a NUL byte; " + READ_BY.format("utf-16-le")),
        ("text,label\ngood,1\n".encode("utf-16-be"), "a.csv:1: a NUL byte; " + READ_BY.format("utf-16-be")),
        (CHINESE.encode("utf-16-be"), "a.csv:2: byte 0x8f is not UTF-8; " + READ_BY.format("utf-16-be")),
        (
            CHINESE.encode("gb18030"),
            "a.csv:2: byte 0xd5 is not UTF-8 (the first of 2 bad rows); " + READ_BY.format("gb18030") + "\n"
            "  a.csv:2: byte 0xd5 is not UTF-8\n"
            "  a.csv:3: byte 0xba is not UTF-8",
        ),
        ("t\nОчень хороший фильм\n".encode("cp1251"), "a.csv:2: byte 0xce is not UTF-8; " + READ_BY.format("cp1251")),
        (b"t\ngo\0od\n", "a.csv:2: a NUL byte; " + NO_NUL),
        (
            b"t\ngo\0od\nb\n\0\n",
            f"a.csv:2: a NUL byte (the first of 2 bad rows); {NO_NUL}\n  a.csv:2: a NUL byte\n  a.csv:4: a NUL byte",
        ),
        (
            "t\ncafé\n".encode() + "café\n".encode("latin-1"),
            (
                "a.csv:3: byte 0xe9 is not UTF-8; it looks like cp1252 among UTF-8: data.encoding=utf-8,cp1252 reads each "
                "line in the one that fits"
            ),
        ),
    ],
)
def test_non_utf8_error_names_line_and_likely_encoding(refusal, data, message):
    assert refusal("a.csv", data) == message


def test_suggested_encoding_reads_the_file(rows_of):
    assert rows_of("a.csv", CHINESE.encode("gb18030"), encoding="gb18030").texts("label") == ["我喜欢", "下次还来"]
    assert rows_of("a.csv", CHINESE.encode("utf-16"), encoding="utf-16").texts("label") == ["我喜欢", "下次还来"]
    mixed = "t\ncafé\n".encode() + "café\n".encode("latin-1")
    assert rows_of("a.csv", mixed, encoding="utf-8,cp1252").texts("t") == ["café", "café"]


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-9", "data.encoding: no text encoding is called 'utf-9'; did you mean 'utf-8'?"),
        (
            "base64",
            (
                "data.encoding: no text encoding is called 'base64'; known: utf-8, utf-16, cp1252, latin-1, gb18030, big5, "
                "shift_jis, euc_kr, cp1251"
            ),
        ),
        (
            "utf-8,utf-16",
            "data.encoding: utf-16 cannot be used in a list; its lines cannot be separated before decoding: use it alone",
        ),
        ("ascii", "a.csv:2: byte 0xc3 is not ascii; it looks like utf-8: data.encoding=utf-8 reads it"),
        (
            "ascii,utf-7",
            "data.encoding: utf-7 cannot be used in a list; its lines cannot be separated before decoding: use it alone",
        ),
        ("ascii,ascii", "a.csv:2: bytes that are not ascii,ascii; add the line's encoding"),
    ],
)
def test_wrong_encoding_is_rejected(refusal, encoding, message):
    assert refusal("a.csv", "t\né\n", encoding=encoding) == message


def test_half_a_surrogate_pair_is_rejected(refusal):
    message = "a.csv:2: half a surrogate pair; write the whole character, or remove it"
    assert refusal("a.csv", b"t\n+2AA-\n", encoding="utf-7") == message


def test_byte_order_mark_is_removed():
    assert decode_text(b"\xef\xbb\xbfabc", "a.txt") == "abc"
    assert decode_text("abc".encode("utf-16"), "a.txt", "utf-16") == "abc"
    assert decode_text("\ufeffabc".encode("utf-16-le"), "a.txt", "utf-16-le") == "abc"


@pytest.mark.parametrize("name", ["idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "", "\0"])
def test_codecs_other_than_file_encodings_are_rejected(name):
    with pytest.raises(RecipeError):
        decode_text(b"abc", "a.txt", name)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("Schöne Grüße aus München, Straße\n", "cp1252"),
        ("the word \u201chello\u201d in quotes\n", "cp1252"),
        ("這部電影非常好看，我喜歡\n", "big5"),
        ("とても良い映画でした\n", "shift_jis"),
        ("정말 좋은 영화입니다\n", "euc_kr"),
    ],
)
def test_common_encodings_are_detected(text, encoding):
    assert detect_encoding(text.encode(encoding)) == encoding


def zip_members(*members: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for member in members:
            archive.writestr(member, "text,label\na,b\n")
    return stream.getvalue()


def test_gz_and_zip_are_decompressed(rows_of):
    assert rows_of("a.csv.gz", gzip.compress(b"text\na\n")).location(0) == "a.csv.gz:2"
    assert rows_of("a.zip", zip_members("a.csv")).texts("label") == ["b"]
    assert rows_of("a.csv.zip", zip_members("data", "__MACOSX/._data")).texts("label") == ["b"]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        (
            "a.csv.gz",
            b"nonsense",
            "a.csv.gz: not a readable .gz file: Not a gzipped file (b'no'); compress it again, or decompress it first",
        ),
        (
            "a.zip",
            b"nonsense",
            "a.zip: not a readable .zip file: File is not a zip file; compress it again, or decompress it first",
        ),
        (
            "a.zip",
            zip_members("a.csv", "b.csv"),
            "a.zip: 2 files inside: a.csv, b.csv; a zip must hold one file: unpack it and name the file",
        ),
        ("a.zip", zip_members(), "a.zip: no file inside; a zip must hold one file: unpack it and name the file"),
    ],
)
def test_damaged_or_ambiguous_archives_are_rejected(refusal, name, data, message):
    assert refusal(name, data) == message


def test_truncated_gz_is_rejected(refusal):
    whole = gzip.compress(b"text\n" + b"abc\n" * 100)
    assert refusal("a.csv.gz", whole[:-9]).startswith("a.csv.gz: not a readable .gz file: ")
