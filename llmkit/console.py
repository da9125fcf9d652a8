"""All that is printed: notes and progress on stderr, results on stdout; only the first process of a run speaks."""

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

from llmkit import errors

JSON_UNSAFE = re.compile(
    rf"[{errors.CONTROL_CHARACTERS}\u061c\u200e\u200f]"
)  # marks of direction too: an escape loses nothing
NON_ASCII = re.compile(r"[^\x20-\x7e]")
SECRET_PATTERN = re.compile(
    r"hf_[A-Za-z0-9]{8,}|(?<=://)[^/@\s:]+:[^/@\s]+(?=@)|(?i:(?<=token=)|(?<=password=)|(?<=api_key=))\S+"
)

COLUMN_GAP = 3  # columns between two of a table
MAX_CELL_WIDTH = 40  # columns of a terminal that a table's cell may insist on
PROGRESS_LINE_INTERVAL = 30.0  # seconds between two lines of progress where there is no terminal
NESTED_BAR_DELAY = 1.0  # seconds that a bar within another waits before it shows
MIN_BAR_WIDTH, MAX_BAR_WIDTH = 3, 40  # columns of a bar

PRINTED_MESSAGES: list[set[str]] = []  # the notes of each `once` that is open


def sanitize_for_console(text: object) -> str:
    """`text` without control characters: what a file says never steers the terminal."""
    return errors.sanitize_text(text)


def redact_secrets(text: str) -> str:
    """`text` with tokens and passwords replaced by ***."""
    return SECRET_PATTERN.sub("***", text)


def can_print() -> bool:
    """Whether this process may print: the first of its run."""
    return os.environ.get("WORLD_SIZE", "1") in ("", "0", "1") or os.environ.get("RANK", "0") == "0"


def print_message(text: str) -> None:
    """Print one line to stderr."""
    if can_print() and not any(text in said for said in PRINTED_MESSAGES):
        for said in PRINTED_MESSAGES:
            said.add(text)
        print(redact_secrets(sanitize_for_console(text)), file=sys.stderr, flush=True)


@contextmanager
def print_messages_once() -> Iterator[None]:
    """A while in which no note is said twice: where several models read the same rows, each would say it."""
    PRINTED_MESSAGES.append(set())
    try:
        yield
    finally:
        PRINTED_MESSAGES.pop()


def print_error(text: str) -> None:
    """Print a mistake to stderr, line by line, as `error: what; mend`."""
    print(
        "\n".join(redact_secrets(sanitize_for_console(line)) for line in f"error: {text}".split("\n")),
        file=sys.stderr,
        flush=True,
    )


def print_result(text: str = "") -> None:
    """Print a result to stdout, line by line."""
    if can_print():
        write_stdout("\n".join(sanitize_for_console(line) for line in text.split("\n")))


def print_json(record: Mapping[str, Any]) -> None:
    """Print one record to stdout as a line of JSON."""
    print_json_line(json.dumps(record, ensure_ascii=False, allow_nan=False))


def print_json_line(line: str) -> None:
    """Print one line of JSON to stdout, with an escape for what steers a terminal or what stdout cannot write."""
    if can_print():
        write_stdout((JSON_UNSAFE if can_encode_unicode(sys.stdout) else NON_ASCII).sub(_escape, line))


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def write_stdout(text: str) -> None:
    """Print to stdout; leave without a word when its reader has left, as `head` does: that is its right."""
    try:
        print(escape_unencodable(text), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def format_duration(seconds: float) -> str:
    """For people: `3.2 s`, `41 s`, `1 m 40 s`, `2 h 5 m`, `3 d 4 h`."""
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
    """Whether `stream` can write any text."""
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def escape_unencodable(text: str) -> str:
    """`text` with an escape (of JSON too) for each character that stdout cannot write."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def is_stdout_terminal() -> bool:
    """Whether stdout is a terminal."""
    return sys.stdout.isatty()


def can_fit_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> bool:
    """Whether the terminal has room for all of a table's cells; always without one."""
    if not is_stdout_terminal():
        return True
    from rich.cells import cell_len
    from rich.console import Console

    widths = [
        max(cell_len(sanitize_for_console(str(cell))) for cell in column) for column in zip(head, *rows, strict=True)
    ]
    return sum(widths) + COLUMN_GAP * (len(widths) - 1) <= Console().width


def print_table(
    head: Sequence[str], rows: Sequence[Sequence[object]], numbers: Collection[int] = (), title: str = ""
) -> None:
    """Print a table to stdout: cells on one line each, the columns in `numbers` to the right."""
    if not can_print():
        return
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if title:  # rich would break it at the width of the table
        write_stdout(sanitize_for_console(title))
    grid = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for i, word in enumerate(head):
        # The last column gives way first when the terminal is narrow.
        cells = [word, *(str(row[i]) for row in rows)]
        least = (
            None if i == len(head) - 1 else min(MAX_CELL_WIDTH, max(map(cell_len, map(sanitize_for_console, cells))))
        )
        grid.add_column(
            Text(escape_unencodable(sanitize_for_console(word))),
            justify="right" if i in numbers else "left",
            min_width=least,
            no_wrap=True,
            overflow="ellipsis",
        )
    for row in rows:
        grid.add_row(*(Text(escape_unencodable(sanitize_for_console(cell))) for cell in row))
    # Without a terminal nothing is cut: a log keeps every cell whole.
    drawn = StringIO()
    columns = Console().width if is_stdout_terminal() else 10_000
    Console(file=drawn, width=columns, highlight=False).print(grid, end="")
    write_stdout("\n".join(line.rstrip() for line in drawn.getvalue().split("\n")).rstrip("\n"))


@dataclass
class ProgressState:
    """How far something long has come. `facts` stand behind the count; `left` are seconds, where its owner knows."""

    label: str
    total: int | None
    started_at: float
    is_drawn: bool
    last_printed_at: float
    done: int = 0
    facts: Sequence[str] = ()
    left: float | None = None

    def format_details(self) -> list[str]:
        """The facts, and the time left where it can be told."""
        return [*self.facts, *([] if self.left is None else [f"{format_duration(math.ceil(self.left))} left"])]


ACTIVE_BARS: list[ProgressState] = []  # on the terminal, the outermost first: one display draws them all


@contextmanager
def show_progress(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """A bar on stderr while something long runs; without a terminal a line every thirty seconds.

    Gives `advance(steps, facts=(), left=None)`: texts that stand behind the bar, and the seconds left where the
    caller knows better than the mean so far. One within another draws a second bar below the first.
    """
    if not can_print():
        yield lambda *_, **__: None
        return
    began = time.monotonic()
    bar = ProgressState(label, total, began, is_drawn=can_draw_bars(), last_printed_at=began)
    with display_bar(bar) if bar.is_drawn else nullcontext():
        yield partial(advance_progress, bar)


def advance_progress(bar: ProgressState, steps: int = 1, facts: Sequence[str] = (), left: float | None = None) -> None:
    """Move `bar` on; where it is not drawn, say so now and then."""
    now = time.monotonic()
    bar.done, bar.facts = bar.done + steps, [sanitize_for_console(fact) for fact in facts]
    bar.left = left
    if left is None and bar.total and bar.done:
        bar.left = (now - bar.started_at) * (bar.total - bar.done) / bar.done
    if not bar.is_drawn and now - bar.last_printed_at >= PROGRESS_LINE_INTERVAL:
        bar.last_printed_at = now
        count = f"{bar.done:,} of {bar.total:,}" if bar.total else f"{bar.done:,}"
        print_message(f"{bar.label}: {'  '.join([count, *bar.format_details()])}")


def can_draw_bars() -> bool:
    """Whether stderr is a terminal whose lines can be written again."""
    if not sys.stderr.isatty():
        return False
    from rich.console import Console

    screen = Console(stderr=True)
    return screen.is_terminal and not screen.is_dumb_terminal


@contextmanager
def display_bar(bar: ProgressState) -> Iterator[None]:
    """`bar` on the terminal for a while; it leaves no trace."""
    from rich.console import Console
    from rich.live import Live

    ACTIVE_BARS.append(bar)
    try:
        if len(ACTIVE_BARS) > 1:
            yield
            return
        screen = Console(stderr=True, highlight=False)
        picture = partial(render_bars, screen)
        with Live(console=screen, get_renderable=picture, transient=True, refresh_per_second=4):
            yield
    finally:
        ACTIVE_BARS.remove(bar)


def render_bars(screen: Any) -> Any:
    """All bars, but for those within others that have only just begun."""
    from rich.console import Group

    now = time.monotonic()
    return Group(
        *(
            render_bar(bar, screen.width)
            for bar in ACTIVE_BARS
            if bar is ACTIVE_BARS[0] or now - bar.started_at >= NESTED_BAR_DELAY
        )
    )


def render_bar(bar: ProgressState, width: int) -> Any:
    """`bar` as rich draws it on `width` columns. Where they are too few the label goes, then the first facts."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    label, words = bar.label, bar.format_details()
    count = f"{bar.done:,}/{bar.total:,}" if bar.total else f"{bar.done:,}"
    room = width - MIN_BAR_WIDTH - 1  # for the texts
    if len(label) + 1 + len("  ".join([count, *words])) > room and words:
        label = ""
    while len("  ".join([count, *words])) > room and words:
        del words[0]
    text = "  ".join([count, *words])
    grid = Table.grid(padding=(0, 1, 0, 0))
    cells: list[Any] = [Text(label)] if label else []
    if bar.total:
        taken = len(text) + 1 + (len(label) + 1 if label else 0)
        cells.append(ProgressBar(bar.total, bar.done, width=max(1, min(MAX_BAR_WIDTH, width - taken))))
    grid.add_row(*cells, Text(text, no_wrap=True, overflow="crop"))
    return grid
