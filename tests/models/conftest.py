"""Copies of the tiny model to damage, and the sentence that refuses one."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import LlmkitError, ModelError


@pytest.fixture
def copied(tiny: str, own_folder: Path) -> Callable[..., Path]:
    """A copy of the tiny model as folder m, with `config` fields changed and `without` files removed."""

    def make(without: tuple[str, ...] = (), **config: Any) -> Path:
        folder = Path(shutil.copytree(tiny, "m"))
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | config))
        for name in without:
            (folder / name).unlink()
        return folder

    return make


@pytest.fixture
def refused() -> Callable[..., str]:
    """What the exception says that `work` raises."""

    def sentence(work: Callable[[], object], kind: type[LlmkitError] = ModelError) -> str:
        with pytest.raises(kind) as caught:
            work()
        return str(caught.value)

    return sentence
