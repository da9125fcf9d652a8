"""Which encoding bytes that are not UTF-8 are most likely in."""

from __future__ import annotations

import codecs
import re

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16: its mark begins with UTF-16's
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
    """The name of the encoding that `data` is most likely in, or None when nothing fits."""
    for mark, name in BYTE_ORDER_MARKS.items():
        if data.startswith(mark) and can_decode(data, name):
            return name
    if wide := _wide(data):
        return wide
    if can_decode(data, "utf-8"):
        return "utf-8"
    lines = b"".join(line for line in data[: SAMPLE_BYTES * 16].splitlines(True) if not line.isascii())[:SAMPLE_BYTES]
    runs = [len(run) for run in NON_ASCII_RUN.findall(lines)]
    # Accents are few and stand alone between plain letters; the bytes of other scripts are many or come in runs.
    if runs.count(1) * 2 >= len(runs) and sum(runs) * 2 <= len(lines) and can_decode(data, "cp1252"):
        return "cp1252"
    return _by_frequency(data, lines) or next((name for name in ("cp1252", "latin-1") if can_decode(data, name)), None)


def _wide(data: bytes) -> str | None:
    """UTF-16 without a byte order mark, by where its NUL bytes stand."""
    head = data[: SAMPLE_BYTES - SAMPLE_BYTES % 2]
    half = max(len(head) // 2, 1)
    even, odd = head[0::2].count(0) / half, head[1::2].count(0) / half
    for name, zeros, others in (("utf-16-le", odd, even), ("utf-16-be", even, odd)):
        # Latin letters make every second byte zero; in Chinese text only spaces, digits and line ends do.
        if zeros > 0.02 and others < zeros / 10 and can_decode(data, name):
            decoded = data.decode(name)
            # Where NULs only strayed into plain text, its line ends are not those of UTF-16.
            if "\0" not in decoded and decoded.count("\n") * 2 >= data.count(b"\n"):
                return name
    return None


def _by_frequency(data: bytes, lines: bytes) -> str | None:
    from charset_normalizer import from_bytes

    fitting = [name for name in CANDIDATE_ENCODINGS if can_decode(data, name)]
    if not fitting:
        return None
    best = from_bytes(lines, cp_isolation=fitting, enable_fallback=False).best()
    return best.encoding if best else None


def can_decode(data: bytes, name: str) -> bool:
    """Whether the encoding `name` can be what `data` is in."""
    try:
        data.decode(name)
    except UnicodeError:
        return False
    return True
