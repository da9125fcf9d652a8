"""Console output: messages and progress on stderr, results on stdout; only the main process of a run prints."""

from __future__ import annotations

import json
import math
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import StringIO
from typing import Any

from llmkit.errors import CONTROL_CHARACTERS, sanitize_text

# Marks of text direction too: a JSON escape preserves them.
JSON_UNSAFE = re.compile(rf"[{CONTROL_CHARACTERS}\u061c\u200e\u200f]")
NON_ASCII = re.compile(r"[^\x20-\x7e]")
SECRET_PATTERN = re.compile(
    r"hf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)|(?i:(?<=token=)|(?<=password=)|(?<=api_key=))\S+"
)

COLUMN_GAP = 3  # columns of the terminal between two of a table
MAX_CELL_WIDTH = 40  # columns of the terminal that a table's cell keeps in any case
PROGRESS_LINE_INTERVAL = 30.0  # seconds between two lines of progress where there is no terminal
NESTED_BAR_DELAY = 1.0  # seconds before a bar within another is shown
MIN_BAR_WIDTH, MAX_BAR_WIDTH = 3, 40  # columns of a bar

PRINTED_MESSAGES: list[set[str]] = []  # the messages of each open `print_messages_once`


def sanitize_for_console(text: object) -> str:
    """`text` on one line without control characters: a quoted cell or file name never controls the terminal."""
    return sanitize_text(text)


def redact_secrets(text: str) -> str:
    """`text` with tokens and passwords replaced by ***."""
    return SECRET_PATTERN.sub("***", text)


def can_print() -> bool:
    """Whether this process may print: the main process of its run."""
    return os.environ.get("WORLD_SIZE", "1") in ("", "0", "1") or os.environ.get("RANK", "0") == "0"


def print_message(text: str) -> None:
    """Print one line to stderr."""
    if can_print() and not any(text in printed for printed in PRINTED_MESSAGES):
        for printed in PRINTED_MESSAGES:
            printed.add(text)
        print(redact_secrets(sanitize_text(text)), file=sys.stderr, flush=True)


@contextmanager
def print_messages_once() -> Iterator[None]:
    """Print no message twice within the block, as where several models read the same rows."""
    PRINTED_MESSAGES.append(set())
    try:
        yield
    finally:
        PRINTED_MESSAGES.pop()


def print_error(text: str) -> None:
    """Print an error to stderr, line by line, as `error: message; fix`."""
    lines = f"error: {text}".split("\n")
    print("\n".join(redact_secrets(sanitize_text(line)) for line in lines), file=sys.stderr, flush=True)


def print_result(text: str = "") -> None:
    """Print a result to stdout, line by line."""
    if can_print():
        write_stdout("\n".join(sanitize_text(line) for line in text.split("\n")))


def print_json(record: Mapping[str, Any]) -> None:
    """Print one record to stdout as a line of JSON. Raises ValueError for NaN and infinity."""
    print_json_line(json.dumps(record, ensure_ascii=False, allow_nan=False))


def print_json_line(line: str) -> None:
    """Print one line of JSON to stdout; escape control characters and those that stdout cannot encode."""
    if can_print():
        write_stdout((JSON_UNSAFE if can_encode_unicode(sys.stdout) else NON_ASCII).sub(_escape_match, line))


def _escape_match(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def write_stdout(text: str) -> None:
    """Print to stdout; exit silently with code 0 when the reader has closed the pipe, as `head` does."""
    try:
        print(escape_unencodable(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def format_duration(seconds: float) -> str:
    """A duration for people: `3.2 s`, `41 s`, `1 m 40 s`, `2 h 5 m`, `3 d 4 h`."""
    whole, minutes = round(seconds), round(seconds / 60)
    if whole < 10:
        return f"{seconds:.2g} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} m"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def format_short_number(number: float) -> str:
    """A number of three digits for people: `950`, `12.3k`, `1.05M`."""
    for unit, size in (("", 1), ("k", 10**3), ("M", 10**6)):
        text = f"{number / size:.3g}"
        if abs(float(text)) < 1000:
            return text + unit
    return f"{number / 10**9:.3g}G"


def can_encode_unicode(stream: Any) -> bool:
    """Whether `stream` has a Unicode encoding."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def escape_unencodable(text: str) -> str:
    """`text` with an escape (that JSON has too) for each character that stdout cannot encode."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def is_stdout_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def can_fit_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether the terminal is wide enough for all cells of a table; true without a terminal."""
    if not is_stdout_terminal():
        return True
    from rich.cells import cell_len
    from rich.console import Console

    widths = [max(cell_len(sanitize_text(str(cell))) for cell in column) for column in zip(head, *rows, strict=True)]
    return sum(widths) + COLUMN_GAP * (len(widths) - 1) <= Console().width


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[int] = (), title: str = ""
) -> None:
    """Print a table to stdout: each cell on one line, the columns in `numbers` aligned to the right."""
    if not can_print():
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:  # rich would wrap it at the width of the table
        write_stdout(sanitize_text(title))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, word in enumerate(head):
        # The last column is truncated first when the terminal is narrow.
        cells = [word, *(str(row[i]) for row in rows)]
        widest = max(map(cell_len, map(sanitize_text, cells)))
        grid.add_column(
            Text(escape_unencodable(sanitize_text(word))),
            justify="right" if i in numbers else "left",
            min_width=None if i == len(head) - 1 else min(MAX_CELL_WIDTH, widest),
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        grid.add_row(*(Text(escape_unencodable(sanitize_text(cell))) for cell in row))
    # Without a terminal nothing is truncated: a log keeps every cell whole.
    rendered = StringIO()
    columns = Console().width if is_stdout_terminal() else 10_000
    Console(file=rendered, width=columns, highlight=False).print(grid, end="")
    write_stdout("\n".join(line.rstrip() for line in rendered.getvalue().split("\n")).rstrip("\n"))


@dataclass
class ProgressState:
    """The progress of a long task. `facts` are printed after the count; `left` are the remaining seconds, if known."""

    label: str
    total: int | None
    started_at: float
    is_drawn: bool
    last_printed_at: float
    done: int = 0
    facts: Sequence[str] = ()
    left: float | None = None

    def format_details(self) -> list[str]:
        """The facts, and the time left if it is known."""
        return [*self.facts, *([] if self.left is None else [f"{format_duration(math.ceil(self.left))} left"])]


ACTIVE_BARS: list[ProgressState] = []  # on the terminal, the outermost first: one display draws them all


@contextmanager
def show_progress(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Show a progress bar on stderr during the block; without a terminal, print a line every thirty seconds.

    Yields `advance(steps, facts=(), left=None)`: texts to print after the count, and the seconds left where the caller
    has a better estimate than the mean so far. A bar within another is drawn below it.
    """
    if not can_print():
        yield lambda *_, **__: None
        return
    now = time.monotonic()
    bar = ProgressState(label, total, now, is_drawn=can_draw_bars(), last_printed_at=now)
    with display_bar(bar) if bar.is_drawn else nullcontext():
        yield partial(advance_progress, bar)


def advance_progress(bar: ProgressState, steps: int = 1, facts: Sequence[str] = (), left: float | None = None) -> None:
    """Add `steps` to the count of `bar`; where bars cannot be drawn, print a line now and then."""
    now = time.monotonic()
    bar.done, bar.facts = bar.done + steps, [sanitize_text(fact) for fact in facts]
    bar.left = left
    if left is None and bar.total and bar.done:
        bar.left = (now - bar.started_at) * (bar.total - bar.done) / bar.done
    if not bar.is_drawn and now - bar.last_printed_at >= PROGRESS_LINE_INTERVAL:
        bar.last_printed_at = now
        count = f"{bar.done:,} of {bar.total:,}" if bar.total else f"{bar.done:,}"
        print_message(f"{bar.label}: {'  '.join([count, *bar.format_details()])}")


def can_draw_bars() -> bool:
    """Whether stderr is a terminal that can redraw its lines."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    screen = Console(stderr=True)
    return screen.is_terminal and not screen.is_dumb_terminal


@contextmanager
def display_bar(bar: ProgressState) -> Iterator[None]:
    """Show `bar` on the terminal during the block, and erase it afterwards."""
    from rich.console import Console
    from rich.live import Live

    ACTIVE_BARS.append(bar)
    try:
        if len(ACTIVE_BARS) > 1:
            yield
            return
        screen = Console(stderr=True, highlight=False)
        render = partial(render_bars, screen)
        with Live(console=screen, get_renderable=render, transient=True, refresh_per_second=4):
            yield
    finally:
        ACTIVE_BARS.remove(bar)


def render_bars(screen: Any) -> Any:
    """All bars as one rich renderable, except nested ones that have only just started."""
    from rich.console import Group

    now = time.monotonic()
    shown = [bar for bar in ACTIVE_BARS if bar is ACTIVE_BARS[0] or now - bar.started_at >= NESTED_BAR_DELAY]
    return Group(*(render_bar(bar, screen.width) for bar in shown))


def render_bar(bar: ProgressState, width: int) -> Any:
    """`bar` as rich renders it on `width` columns. If they are too few, the label is left out, then the first facts."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    label, details = bar.label, bar.format_details()
    count = f"{bar.done:,}/{bar.total:,}" if bar.total else f"{bar.done:,}"
    room = width - MIN_BAR_WIDTH - 1  # for the texts
    if len(label) + 1 + len("  ".join([count, *details])) > room and details:
        label = ""
    while len("  ".join([count, *details])) > room and details:
        del details[0]
    text = "  ".join([count, *details])
    grid = Table.grid(padding=(0, 1, 0, 0))
    cells: list[Any] = [Text(label)] if label else []
    if bar.total:
        taken = len(text) + 1 + (len(label) + 1 if label else 0)
        cells.append(ProgressBar(bar.total, bar.done, width=max(1, min(MAX_BAR_WIDTH, width - taken))))
    grid.add_row(*cells, Text(text, no_wrap=True, overflow="crop"))
    return grid
