"""Streaming reader of text files that yields numbered lines, decoded strictly one at a time."""

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
    """One file of a corpus: its name in messages, and its path."""

    name: str
    path: Path


def read_numbered_lines(file: CorpusFile, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line, without its line end and without a byte order mark.

    Raises DataError after the last line, for all lines that are not in `encoding`; MissingInputError for an unreadable
    file.
    """
    wide = "," not in encoding and not has_byte_lines(get_codec_name(encoding))
    try:
        with open_possibly_gzipped(file.path) as stream:
            if wide:
                with io.TextIOWrapper(stream, get_codec_name(encoding), newline="\n") as lines:
                    for number, line in enumerate(lines, start=1):
                        yield number, strip_line_end(line.removeprefix("\ufeff") if number == 1 else line)
            else:
                yield from decode_lines(stream, file.name, encoding)
    except UnicodeDecodeError as error:
        raise DataError(f"{file.name}: not {encoding}", "name its encoding with data.encoding=NAME") from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        what = f"{file.name}: not a readable .gz file: {error}"
        raise DataError(what, "compress it again, or decompress it first") from error
    except OSError as error:
        what = f"{file.name}: cannot be read: {error.strerror}"
        raise MissingInputError(what, "check the file and its permissions") from error


def decode_lines(lines: Iterable[bytes], name: str, encoding: str) -> Iterator[tuple[int, str]]:
    """Yield the number and text of each line before the first that is not in `encoding`; then raise DataError for all.

    The remaining lines are decoded too, so that the error has the number of all bad lines.
    """
    errors: list[RowError] = []
    bad_bytes, good = b"", 0
    codec = None if "," in encoding else get_codec_name(encoding)
    for number, raw in enumerate(lines, start=1):
        if codec == "utf-8" and not errors and b"\0" not in raw:
            try:  # fast path for most lines of most corpora: a tenth of the time
                line = raw.decode()
                good += not raw.isascii()
                yield number, line.removesuffix("\n").removesuffix("\r").removeprefix("\ufeff" * (number == 1))
                continue
            except UnicodeDecodeError:
                pass
        line, line_errors = try_decode_text(raw.removesuffix(b"\n"), name, encoding)
        if line_errors:
            errors.append(line_errors[0]._replace(location=f"{name}:{number}"))
            bad_bytes += raw if len(bad_bytes) < SAMPLE_BYTES else b""
        good += not line_errors and not raw.isascii()
        if not errors:
            yield number, line.removesuffix("\r")
    if errors and bad_bytes.count(0) * 4 < len(bad_bytes) and "NUL" in errors[0].what:
        errors = [error._replace(fix="text cannot contain it: remove it") for error in errors]
    elif errors and "," not in encoding:
        mixed = get_codec_name(encoding) == "utf-8" and good * MIXED_ENCODING_RATIO > len(errors)
        fix = suggest_encoding(detect_encoding(bad_bytes), get_codec_name(encoding), mixed)
        errors = [error._replace(fix=fix) for error in errors]
    raise_errors(errors)


def strip_line_end(line: str) -> str:
    """Remove a trailing LF, CR or CRLF."""
    return line.removesuffix("\n").removesuffix("\r")


def open_possibly_gzipped(path: Path) -> Any:
    """Open a file for reading bytes, decompressing .gz."""
    return gzip.open(path, "rb") if path.suffix.lower() == GZIP_SUFFIX else path.open("rb")
