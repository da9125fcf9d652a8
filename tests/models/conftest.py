"""Fixtures: a copy of the tiny model to damage, and the message of an expected error."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import LlmkitError, ModelError


@pytest.fixture
def copy_tiny(tiny: str, own_folder: Path) -> Callable[..., Path]:
    """Function that copies the tiny model to folder m, changes `config` fields and removes the files in `without`."""

    def copy(without: tuple[str, ...] = (), **config: Any) -> Path:
        folder = Path(shutil.copytree(tiny, "m"))
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
        for name in without:
            (folder / name).unlink()
        return folder

    return copy


@pytest.fixture
def error_message() -> Callable[..., str]:
    """Function that returns the message of the error that `work` raises."""

    def message(work: Callable[[], object], kind: type[LlmkitError] = ModelError) -> str:
        with pytest.raises(kind) as caught:
            work()
        return str(caught.value)

    return message
