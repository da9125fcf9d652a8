"""Decompression of input files and strict decoding of their bytes to text."""

from __future__ import annotations

import codecs
import gzip
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from llmkit.data.readers.detect_encoding import can_decode, detect_encoding
from llmkit.data.row_errors import RowError, join_names, raise_errors
from llmkit.errors import DataError, MissingInputError, RecipeError, suggest_spelling

COMMON_ENCODINGS = ["utf-8", "utf-16", "cp1252", "latin-1", "gb18030", "big5", "shift_jis", "euc_kr", "cp1251"]
NON_FILE_ENCODINGS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}  # for names and literals

GUESS_PREFIX = "it looks like "
MIXED_ENCODING_RATIO = 10  # one UTF-8 line per this many others is more than text in another encoding has by accident


@dataclass(frozen=True)
class ReadOptions:
    """Options for reading files: recipe keys `data.encoding`, `data.delimiter`, `data.quoting` and `data.on_empty`."""

    encoding: str = "utf-8"
    """One encoding, or a list such as "utf-8,cp1252": each line is decoded with the first that fits."""
    delimiter: str | None = None
    """One character or the word "tab"; None: by the file extension."""
    quoting: Literal["csv", "none"] | None = None
    """None: csv for .csv, none for .tsv."""
    on_empty: Literal["error", "skip"] = "error"


def decompress_file(path: Path, name: str) -> tuple[bytes, str]:
    """Return the file's bytes, decompressed from .gz or from a .zip with one member, and the extension of its format.

    name: the file's name in messages. Raises DataError for a damaged archive, MissingInputError for an unreadable file.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise MissingInputError(f"{name}: cannot be read: {e.strerror}", "check the file and its permissions") from e
    compression = path.suffix.lower()
    if compression not in (".gz", ".zip"):
        return data, compression
    inner = path.with_suffix("").suffix.lower()
    try:
        if compression == ".gz":
            return gzip.decompress(data), inner
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = _find_only_member(archive, name)
            return archive.read(member), PurePath(member).suffix.lower() or inner
    except DataError:
        raise
    except Exception as e:  # the standard library raises a dozen classes on damaged or encrypted archives
        detail = str(e) or type(e).__name__
        what = f"{name}: not a readable {compression} file: {detail}"
        raise DataError(what, "compress it again, or decompress it first") from e


def _find_only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
    if len(members) == 1:
        return members[0]
    content = f"{len(members)} files inside: {join_names(members)}" if members else "no file inside"
    raise DataError(f"{name}: {content}", "a zip must hold one file: unpack it and name the file")


def decode_text(data: bytes, name: str, encoding: str = "utf-8") -> str:
    """Decode bytes to text without a byte order mark. Raises DataError with each line that is not in `encoding`."""
    text, errors = try_decode_text(data, name, encoding)
    raise_errors(errors)
    return text


def try_decode_text(data: bytes, name: str, encoding: str = "utf-8") -> tuple[str, list[RowError]]:
    """Decode bytes to text, or return an error for each line that is not in `encoding` or contains a NUL.

    Half a surrogate pair is an error too. encoding: one encoding, or a list such as "utf-8,cp1252" to decode each line
    with the first that fits.
    """
    if "," in encoding:
        text, errors = _decode_lines(data, name, encoding)
    else:
        text, errors = _decode_whole(data, name, encoding)
    if not errors and "\0" in text:
        errors = _find_nul_lines(text, data, name)
    return ("" if errors else text.removeprefix("\ufeff")), errors


def _decode_whole(data: bytes, name: str, encoding: str) -> tuple[str, list[RowError]]:
    codec = get_codec_name(encoding)
    try:
        text = data.decode(codec)
        if codec != "utf-8":
            text.encode()  # UTF-7 can decode to half a surrogate pair
    except UnicodeDecodeError as e:
        return "", _find_undecodable_lines(data, name, encoding, codec, e)
    except UnicodeEncodeError as e:
        line = e.object.count("\n", 0, e.start) + 1
        return "", [RowError(f"{name}:{line}", "half a surrogate pair", "write the whole character, or remove it")]
    return text, []


def _decode_lines(data: bytes, name: str, encodings: str) -> tuple[str, list[RowError]]:
    codec_names = [get_codec_name(encoding.strip()) for encoding in encodings.split(",")]
    wide = next((codec for codec in codec_names if not has_byte_lines(codec)), None)
    if wide:
        what = f"data.encoding: {wide} cannot be used in a list"
        raise RecipeError(what, "its lines cannot be separated before decoding: use it alone")
    lines, errors = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        fitting = next((codec for codec in codec_names if can_decode(line, codec)), None)
        if fitting is None:
            errors.append(RowError(f"{name}:{number}", f"bytes that are not {encodings}", "add the line's encoding"))
        else:
            lines.append(line.decode(fitting))
    return "\n".join(lines), errors


def get_codec_name(encoding: str) -> str:
    """Return Python's name of a text encoding. Raises RecipeError for an unknown one."""
    try:
        codec = codecs.lookup(encoding).name
        b"x".decode(codec, "ignore")  # raises for codecs from bytes to bytes, such as base64
    except (LookupError, ValueError):
        codec = "undefined"
    if codec.replace("_", "-") in NON_FILE_ENCODINGS:
        fix = suggest_spelling(encoding, COMMON_ENCODINGS)
        raise RecipeError(f"data.encoding: no text encoding is called '{encoding}'", fix)
    return "utf-8" if codec == "utf-8-sig" else codec


def _find_undecodable_lines(
    data: bytes, name: str, encoding: str, codec: str, error: UnicodeDecodeError
) -> list[RowError]:
    display_name = "UTF-8" if codec == "utf-8" else encoding
    likely = detect_encoding(data)
    bad, good = [], 0
    for number, line in enumerate(data.split(b"\n") if has_byte_lines(codec) else [], start=1):
        try:
            line.decode(codec)
            good += not line.isascii()
        except UnicodeDecodeError as e:
            bad.append((number, line[e.start]))
    wide = likely is not None and not has_byte_lines(likely)
    if wide or not bad:  # wide or stateful encodings cannot be split into lines before decoding
        bad = [(data[: error.start].decode(codec, "ignore").count("\n") + 1, data[error.start])]
    fix = suggest_encoding(likely, codec, mixed=codec == "utf-8" and good * MIXED_ENCODING_RATIO > len(bad))
    return [RowError(f"{name}:{number}", f"byte 0x{byte:02x} is not {display_name}", fix) for number, byte in bad]


def suggest_encoding(likely: str | None, codec: str, mixed: bool) -> str:
    """Return the fix for bytes that `codec` cannot decode but `likely` can. mixed: other lines or files are UTF-8."""
    if not likely or get_codec_name(likely) == codec:
        return "name its encoding with data.encoding=NAME"
    if mixed and has_byte_lines(likely):
        return f"it looks like {likely} among UTF-8: data.encoding=utf-8,{likely} reads each line in the one that fits"
    return f"{GUESS_PREFIX}{likely}: data.encoding={likely} reads it"


def has_byte_lines(codec: str) -> bool:
    """Return whether bytes can be split into lines at the byte 0x0A before decoding."""
    return "\n".encode(codec) == b"\n" and codec != "utf-7"


def _find_nul_lines(text: str, data: bytes, name: str) -> list[RowError]:
    likely = detect_encoding(data)
    if likely and likely.startswith("utf-16"):
        return [RowError(f"{name}:1", "a NUL byte", f"{GUESS_PREFIX}{likely}: data.encoding={likely} reads it")]
    numbers = [number for number, line in enumerate(text.split("\n"), start=1) if "\0" in line]
    return [RowError(f"{name}:{number}", "a NUL byte", "text cannot contain it: remove it") for number in numbers]
