"""Detection of the most likely encoding of bytes that are not valid UTF-8."""

from __future__ import annotations

import codecs
import re

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark is a prefix of this one
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
CANDIDATE_ENCODINGS = [
    "gb18030",
    "big5",
    "shift_jis",
    "euc_jp",
    "euc_kr",
    "cp1251",
    "koi8_r",
    "cp1253",
    "cp1255",
    "cp1256",
]
SAMPLE_BYTES = 65_536
NON_ASCII_RUN = re.compile(rb"[\x80-\xff]+")


def detect_encoding(data: bytes) -> str | None:
    """Return the most likely encoding of `data`, or None if no encoding fits."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark) and can_decode(data, name):
            return name
    if utf16 := _detect_utf16(data):
        return utf16
    if can_decode(data, "utf-8"):
        return "utf-8"
    lines = b"".join(line for line in data[: SAMPLE_BYTES * 16].splitlines(True) if not line.isascii())[:SAMPLE_BYTES]
    runs = [len(run) for run in NON_ASCII_RUN.findall(lines)]
    # Accented letters are few and occur singly between ASCII letters; other scripts have many bytes, or long runs.
    if runs.count(1) * 2 >= len(runs) and sum(runs) * 2 <= len(lines) and can_decode(data, "cp1252"):
        return "cp1252"
    by_frequency = _detect_by_frequency(data, lines)
    return by_frequency or next((name for name in ("cp1252", "latin-1") if can_decode(data, name)), None)


def _detect_utf16(data: bytes) -> str | None:
    """Detect UTF-16 without a byte order mark by the positions of its NUL bytes."""
    head = data[: SAMPLE_BYTES - SAMPLE_BYTES % 2]
    half = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / half, head[1::2].count(0) / half
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        # In Latin text every second byte is zero; in Chinese text only spaces, digits and line ends have zero bytes.
        if zeros > 0.02 and others < zeros / 10 and can_decode(data, name):
            text = data.decode(name)
            # Single-byte text with stray NULs also decodes, but then loses most of its line ends.
            if "\0" not in text and text.count("\n") * 2 >= data.count(b"\n"):
                return name
    return None


def _detect_by_frequency(data: bytes, lines: bytes) -> str | None:
    from charset_normalizer import from_bytes

    fitting = [name for name in CANDIDATE_ENCODINGS if can_decode(data, name)]
    if not fitting:
        return None
    best = from_bytes(lines, cp_isolation=fitting, enable_fallback=False).best()
    return best.encoding if best else None


def can_decode(data: bytes, name: str) -> bool:
    """Return whether `data` is valid in the encoding `name`."""
    try:
        data.decode(name)
    except UnicodeError:
        return False
    return True
