"""Each test runs in an empty folder of its own, so that the files in sentences have short names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.data.readers.read import ReadOptions, RowSource, read_rows
from llmkit.data.rows import Rows
from llmkit.errors import LlmkitError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def rows_of(here: Path) -> Callable[..., Rows]:
    """Write a file of these bytes and read it."""

    def write_and_read(name: str, data: str | bytes, **options: Any) -> Rows:
        Path(name).write_bytes(data.encode() if isinstance(data, str) else data)
        return read_rows(name, options=ReadOptions(**options))

    return write_and_read


@pytest.fixture
def refusal(rows_of: Callable[..., Rows]) -> Callable[..., str]:
    """Write a file of these bytes, read it, and return the sentence that refuses it."""

    def sentence(name: str, data: str | bytes, **options: Any) -> str:
        with pytest.raises(LlmkitError) as caught:
            rows_of(name, data, **options)
        return str(caught.value)

    return sentence


@pytest.fixture
def source_refusal(here: Path) -> Callable[[RowSource], str]:
    """Read a source and return the sentence that refuses it."""

    def sentence(source: RowSource) -> str:
        with pytest.raises(LlmkitError) as caught:
            read_rows(source)
        return str(caught.value)

    return sentence
