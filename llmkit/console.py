"""All that is printed: notes and progress on stderr, results on stdout; only the first process of a run speaks."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

from llmkit import errors

IN_JSON = re.compile(rf"[{errors.STEERING}\u061c\u200e\u200f]")  # marks of direction too: an escape loses nothing
NOT_ASCII = re.compile(r"[^\x20-\x7e]")
TOKEN = re.compile(
    r"hf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)|(?i:(?<=token=)|(?<=password=)|(?<=api_key=))\S+"
)

WIDEST = 40  # columns of a terminal that a table's cell may insist on
QUIET = 10.0  # seconds between two lines of progress where there is no terminal


def plain(text: object) -> str:
    """`text` without control characters: what a file says never steers the terminal."""
    return errors.plain(text)


def redacted(text: str) -> str:
    """`text` with tokens and passwords replaced by ***."""
    return TOKEN.sub("***", text)


def speaks() -> bool:
    """Whether this process may print: the first of its run."""
    return os.environ.get("WORLD_SIZE", "1") in ("", "0", "1") or os.environ.get("RANK", "0") == "0"


def note(text: str) -> None:
    """Print one line to stderr."""
    if speaks():
        print(redacted(plain(text)), file=sys.stderr, flush=True)


def error(text: str) -> None:
    """Print a mistake to stderr, line by line, as `error: what; mend`."""
    print("\n".join(redacted(plain(line)) for line in f"error: {text}".split("\n")), file=sys.stderr, flush=True)


def out(text: str = "") -> None:
    """Print a result to stdout, line by line."""
    if speaks():
        write("\n".join(plain(line) for line in text.split("\n")))


def out_json(record: Mapping[str, Any]) -> None:
    """Print one record to stdout as a line of JSON."""
    out_json_text(json.dumps(record, ensure_ascii=False, allow_nan=False))


def out_json_text(line: str) -> None:
    """Print one line of JSON to stdout, with an escape for what steers a terminal or what stdout cannot write."""
    if speaks():
        write((IN_JSON if encodes(sys.stdout) else NOT_ASCII).sub(_escape, line))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def write(text: str) -> None:
    """Print to stdout; leave without a word when its reader has left, as `head` does: that is its right."""
    try:
        print(writable(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def encodes(stream: Any) -> bool:
    """Whether `stream` can write any text."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def writable(text: str) -> str:
    """`text` with an escape (of JSON too) for each character that stdout cannot write."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def on_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def table(
    head: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[int] = (), title: str = ""
) -> None:
    """Print a table to stdout: cells on one line each, the columns in `numbers` to the right."""
    if not speaks():
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    above = Text(writable(plain(title))) if title else None
    grid = Table(box=box.SIMPLE_HEAD, title=above, title_justify="left", pad_edge=False, show_edge=False)
    for i, word in enumerate(head):
        # The last column gives way first when the terminal is narrow.
        cells = [word, *(str(row[i]) for row in rows)]
        least = None if i == len(head) - 1 else min(WIDEST, max(map(cell_len, map(plain, cells))))
        grid.add_column(
            Text(writable(plain(word))),
            justify="right" if i in numbers else "left",
            min_width=least,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        grid.add_row(*(Text(writable(plain(cell))) for cell in row))
    # Without a terminal nothing is cut: a log keeps every cell whole.
    drawn = StringIO()
    columns = Console().width if on_terminal() else 10_000
    Console(file=drawn, width=columns, highlight=False).print(grid, end="")
    write("\n".join(line.rstrip() for line in drawn.getvalue().split("\n")).rstrip("\n"))


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on stderr while something long runs; without a terminal a line every ten seconds.

    Gives `advance(steps, text="")`, where `text` stands behind the bar.
    """
    if not speaks():
        yield lambda *_, **__: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeRemainingColumn(elapsed_when_finished=True),
            TextColumn("{task.fields[text]}"),
        )
        with Progress(*columns, console=Console(stderr=True, highlight=False)) as bar:
            item = bar.add_task(label, total=total, text="")
            yield lambda steps=1, text="": bar.update(item, advance=steps, text=plain(text))
    else:
        done, spoke = 0, time.monotonic()

        def advance(steps: int = 1, text: str = "") -> None:
            nonlocal done, spoke
            done += steps
            if time.monotonic() - spoke >= QUIET:
                spoke = time.monotonic()
                note(
                    f"{label}: {done:,} of {total:,}  {text}".rstrip()
                    if total
                    else f"{label}: {done:,}  {text}".rstrip()
                )

        yield advance
