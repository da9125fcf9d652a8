"""The lines of a text file with their numbers, read one at a time and decoded strictly."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmkit.data.readers.decode import (
    MIXED_ENCODING_RATIO,
    get_codec_name,
    has_byte_lines,
    suggest_encoding,
    try_decode_text,
)
from llmkit.data.readers.detect_encoding import SAMPLE_BYTES, detect_encoding
from llmkit.data.row_errors import RowError, raise_errors
from llmkit.errors import DataError, MissingInputError

GZIP_SUFFIX = ".gz"


class CorpusFile(NamedTuple):
    """One file of a corpus: what messages call it, and where it is."""

    name: str
    path: Path


def read_numbered_lines(part: CorpusFile, encoding: str) -> Iterator[tuple[int, str]]:
    """Each line of a text file with its number, without its end and without a byte order mark.

    Raises DataError at the end for all lines that are not in `encoding`, MissingInputError for an unreadable file.
    """
    wide = "," not in encoding and not has_byte_lines(get_codec_name(encoding))
    try:
        with open_possibly_gzipped(part.path) as file:
            if wide:
                with io.TextIOWrapper(file, get_codec_name(encoding), newline="\n") as lines:
                    for number, line in enumerate(lines, start=1):
                        yield number, strip_line_end(line.removeprefix("\ufeff") if number == 1 else line)
            else:
                yield from decode_lines(file, part.name, encoding)
    except UnicodeDecodeError as fault:
        raise DataError(f"{part.name}: not {encoding}", "name its encoding with data.encoding=NAME") from fault
    except (EOFError, zlib.error, gzip.BadGzipFile) as fault:
        raise DataError(
            f"{part.name}: not a readable .gz file: {fault}", "pack it again, or unpack it first"
        ) from fault
    except OSError as fault:
        what = f"{part.name}: cannot be read: {fault.strerror}"
        raise MissingInputError(what, "check the file and its permissions") from fault


def decode_lines(lines: Iterable[bytes], name: str, encoding: str) -> Iterator[tuple[int, str]]:
    """Each line with its number, up to the first that is not in `encoding`; then DataError, which counts them all."""
    faults: list[RowError] = []
    wrong, other = b"", 0
    codec = None if "," in encoding else get_codec_name(encoding)
    for number, raw in enumerate(lines, start=1):
        if codec == "utf-8" and not faults and b"\0" not in raw:
            try:  # most lines of most corpora: a tenth of the time
                line = raw.decode()
                other += not raw.isascii()
                yield number, line.removesuffix("\n").removesuffix("\r").removeprefix("\ufeff" * (number == 1))
                continue
            except UnicodeDecodeError:
                pass
        line, bad = try_decode_text(raw.removesuffix(b"\n"), name, encoding)
        if bad:
            faults.append(bad[0]._replace(location=f"{name}:{number}"))
            wrong += raw if len(wrong) < SAMPLE_BYTES else b""
        other += not bad and not raw.isascii()
        if not faults:
            yield number, line.removesuffix("\r")
    if faults and wrong.count(0) * 4 < len(wrong) and "NUL" in faults[0].what:
        faults = [fault._replace(fix="no text holds one: take it out") for fault in faults]
    elif faults and "," not in encoding:
        mixed = get_codec_name(encoding) == "utf-8" and other * MIXED_ENCODING_RATIO > len(faults)
        faults = [
            fault._replace(fix=suggest_encoding(detect_encoding(wrong), get_codec_name(encoding), mixed))
            for fault in faults
        ]
    raise_errors(faults)


def strip_line_end(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def open_possibly_gzipped(path: Path) -> Any:
    """The file's bytes, out of a .gz."""
    return gzip.open(path, "rb") if path.suffix.lower() == GZIP_SUFFIX else path.open("rb")
