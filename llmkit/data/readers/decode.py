"""The bytes of a file, unpacked, and their text, decoded strictly."""

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
NON_FILE_ENCODINGS = {"idna", "punycode", "undefined", "unicode-escape", "raw-unicode-escape"}  # of names and literals

GUESS_PREFIX = "it looks like "
MIXED_ENCODING_RATIO = 10  # one UTF-8 line to so many others: more than chance makes of another encoding


@dataclass(frozen=True)
class ReadOptions:
    """How files are read: the recipe keys `data.encoding`, `data.delimiter`, `data.quoting` and `data.on_empty`."""

    encoding: str = "utf-8"  # or a list such as "utf-8,cp1252": each line in the first that fits
    delimiter: str | None = None  # one character or the word "tab"; None: as the ending says
    quoting: Literal["csv", "none"] | None = None  # None: csv for .csv, none for .tsv
    on_empty: Literal["error", "skip"] = "error"


def decompress_file(path: Path, name: str) -> tuple[bytes, str]:
    """The file's bytes, out of a .gz or a .zip with one member, and the ending that says their format.

    `name` is what messages call it. Raises DataError for a damaged archive, MissingInputError for an unreadable file.
    """
    try:
        data = path.read_bytes()
    except OSError as e:
        raise MissingInputError(f"{name}: cannot be read: {e.strerror}", "check the file and its permissions") from e
    packing = path.suffix.lower()
    if packing not in (".gz", ".zip"):
        return data, packing
    inner = path.with_suffix("").suffix.lower()
    try:
        if packing == ".gz":
            return gzip.decompress(data), inner
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = _only_member(archive, name)
            return archive.read(member), PurePath(member).suffix.lower() or inner
    except DataError:
        raise
    except Exception as e:  # the standard library raises a dozen classes on damaged or encrypted archives
        detail = str(e) or type(e).__name__
        raise DataError(f"{name}: not a readable {packing} file: {detail}", "pack it again, or unpack it first") from e


def _only_member(archive: zipfile.ZipFile, name: str) -> str:
    members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
    if len(members) == 1:
        return members[0]
    found = f"{len(members)} files inside: {join_names(members)}" if members else "no file inside"
    raise DataError(f"{name}: {found}", "a zip must hold one file: unpack it and name the file")


def decode_text(data: bytes, name: str, encoding: str = "utf-8") -> str:
    """`data` as text, without a byte order mark. Raises DataError naming each line that is not in `encoding`."""
    decoded, faults = try_decode_text(data, name, encoding)
    raise_errors(faults)
    return decoded


def try_decode_text(data: bytes, name: str, encoding: str = "utf-8") -> tuple[str, list[RowError]]:
    """`data` as text, or the faults of the lines that are not in `encoding`, hold a NUL or half a surrogate pair.

    `encoding` may be a list such as "utf-8,cp1252": then each line is read in the first that fits.
    """
    if "," in encoding:
        decoded, faults = _decode_lines(data, name, encoding)
    else:
        decoded, faults = _decode_whole(data, name, encoding)
    if not faults and "\0" in decoded:
        faults = _nul_lines(decoded, data, name)
    return ("" if faults else decoded.removeprefix("\ufeff")), faults


def _decode_whole(data: bytes, name: str, encoding: str) -> tuple[str, list[RowError]]:
    codec = get_codec_name(encoding)
    try:
        decoded = data.decode(codec)
        if codec != "utf-8":
            decoded.encode()  # UTF-7 lets half a surrogate pair through
    except UnicodeDecodeError as e:
        return "", _undecodable(data, name, encoding, codec, e)
    except UnicodeEncodeError as e:
        line = e.object.count("\n", 0, e.start) + 1
        return "", [RowError(f"{name}:{line}", "half a surrogate pair", "write the whole character, or take it out")]
    return decoded, []


def _decode_lines(data: bytes, name: str, encodings: str) -> tuple[str, list[RowError]]:
    names = [get_codec_name(encoding.strip()) for encoding in encodings.split(",")]
    wide = next((codec for codec in names if not has_byte_lines(codec)), None)
    if wide:
        raise RecipeError(
            f"data.encoding: {wide} cannot stand in a list", "its lines cannot be told apart: name it alone"
        )
    lines, faults = [], []
    for number, line in enumerate(data.split(b"\n"), start=1):
        fitting = next((codec for codec in names if can_decode(line, codec)), None)
        if fitting is None:
            faults.append(RowError(f"{name}:{number}", f"bytes that are not {encodings}", "add the line's encoding"))
        else:
            lines.append(line.decode(fitting))
    return "\n".join(lines), faults


def get_codec_name(encoding: str) -> str:
    """Python's own name for a text encoding. Raises RecipeError for an unknown one."""
    try:
        codec = codecs.lookup(encoding).name
        b"x".decode(codec, "ignore")  # refuses codecs from bytes to bytes, such as base64
    except (LookupError, ValueError):
        codec = "undefined"
    if codec.replace("_", "-") in NON_FILE_ENCODINGS:
        mend = suggest_spelling(encoding, COMMON_ENCODINGS)
        raise RecipeError(f"data.encoding: no text encoding is called '{encoding}'", mend)
    return "utf-8" if codec == "utf-8-sig" else codec


def _undecodable(data: bytes, name: str, encoding: str, codec: str, error: UnicodeDecodeError) -> list[RowError]:
    shown = "UTF-8" if codec == "utf-8" else encoding
    likely = detect_encoding(data)
    bad, good = [], 0
    for number, line in enumerate(data.split(b"\n") if has_byte_lines(codec) else [], start=1):
        try:
            line.decode(codec)
            good += not line.isascii()
        except UnicodeDecodeError as e:
            bad.append((number, line[e.start]))
    wide = likely is not None and not has_byte_lines(likely)
    if wide or not bad:  # lines of wide or stateful characters cannot be told apart before decoding
        bad = [(data[: error.start].decode(codec, "ignore").count("\n") + 1, data[error.start])]
    mend = suggest_encoding(likely, codec, mixed=codec == "utf-8" and good * MIXED_ENCODING_RATIO > len(bad))
    return [RowError(f"{name}:{number}", f"byte 0x{byte:02x} is not {shown}", mend) for number, byte in bad]


def suggest_encoding(likely: str | None, codec: str, mixed: bool) -> str:
    """The mend for bytes that `codec` does not read and `likely` does. mixed: other lines or files do hold UTF-8."""
    if not likely or get_codec_name(likely) == codec:
        return "name its encoding with data.encoding=NAME"
    if mixed and has_byte_lines(likely):
        return f"it looks like {likely} among UTF-8: data.encoding=utf-8,{likely} reads each line in the one that fits"
    return f"{GUESS_PREFIX}{likely}: data.encoding={likely} reads it"


def has_byte_lines(codec: str) -> bool:
    """Whether a line end is the one byte that it is in ASCII, and means nothing for the lines around it."""
    return "\n".encode(codec) == b"\n" and codec != "utf-7"


def _nul_lines(decoded: str, data: bytes, name: str) -> list[RowError]:
    likely = detect_encoding(data)
    if likely and likely.startswith("utf-16"):
        return [RowError(f"{name}:1", "a NUL byte", f"{GUESS_PREFIX}{likely}: data.encoding={likely} reads it")]
    numbers = [number for number, line in enumerate(decoded.split("\n"), start=1) if "\0" in line]
    return [RowError(f"{name}:{number}", "a NUL byte", "no text holds one: take it out") for number in numbers]
