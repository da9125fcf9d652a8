"""Fixtures for data tests; each test runs in its own empty folder, so that messages have short file names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.data.readers.read import ReadOptions, RowSource, read_rows
from llmkit.data.rows import Rows
from llmkit.errors import LlmkitError


@pytest.fixture(autouse=True)
def workdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rows_of(workdir: Path) -> Callable[..., Rows]:
    """Function that writes a file and reads its rows."""

    def write_and_read(name: str, data: str | bytes, **options: Any) -> Rows:
        Path(name).write_bytes(data.encode() if isinstance(data, str) else data)
        return read_rows(name, options=ReadOptions(**options))

    return write_and_read


@pytest.fixture
def refusal(rows_of: Callable[..., Rows]) -> Callable[..., str]:
    """Function that writes a file, reads it and returns the error message."""

    def read_error(name: str, data: str | bytes, **options: Any) -> str:
        with pytest.raises(LlmkitError) as caught:
            rows_of(name, data, **options)
        return str(caught.value)

    return read_error


@pytest.fixture
def source_refusal(workdir: Path) -> Callable[[RowSource], str]:
    """Function that reads a source and returns the error message."""

    def read_error(source: RowSource) -> str:
        with pytest.raises(LlmkitError) as caught:
            read_rows(source)
        return str(caught.value)

    return read_error
