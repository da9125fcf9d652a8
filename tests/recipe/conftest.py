"""Fixture that writes a recipe into the test's own folder and returns the error of loading it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import RecipeError
from llmkit.recipe.load import load_recipe


@pytest.fixture
def refusal(own_folder: Path) -> Callable[..., str]:
    """Write `text` as r.yaml, load it, and return the message of the RecipeError."""

    def message_of(text: str | bytes, *overrides: str, **flags: Any) -> str:
        Path("r.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        with pytest.raises(RecipeError) as caught:
            load_recipe("r.yaml", overrides, **flags)
        return str(caught.value)

    return message_of
