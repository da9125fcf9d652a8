"""Where model files come from, a local folder or the Hub, and the errors when loading fails."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llmkit.errors import LlmkitError, ModelError, NetworkError, find_nearest_word
from llmkit.models.scratch.sizes import NETWORK_NAMES
from llmkit.models.sources.model_ref import ModelRef

MODEL_INFO_TIMEOUT = 5.0  # seconds


@contextmanager
def explain_loading_errors(ref: ModelRef) -> Iterator[None]:
    """Convert any error of the library during loading into a one-line ModelError or NetworkError about the model."""
    try:
        yield
    except (LlmkitError, MemoryError):
        raise
    except Exception as error:  # a damaged folder can raise any exception
        lines = str(error).split("\n")
        reason = lines[1:2] if lines[0].endswith(":") else []  # for an invalid field the first line only names it
        message = " ".join(" ".join([lines[0], *reason]).split())[:300].rstrip(".")
        if "trust_remote_code" in str(error):
            raise ModelError(f"{ref.name}: needs code from its own repository, which llmkit does not run",
                             "name a model of an architecture that transformers has") from error  # fmt: skip
        if ref.folder is None and isinstance(error, OSError):
            raise NetworkError(
                f"{ref.name}: no such local folder, and fetching it from the Hub failed: {message}",
                suggest_model_fix(ref),
            ) from error
        raise ModelError(
            f"{ref.name}: {type(error).__name__}: {message}", "check the folder and model.config"
        ) from error


def get_source_kwargs(ref: ModelRef) -> dict[str, Any]:
    """Get the arguments of from_pretrained for the source: none for a folder; revision and cache use for the Hub."""
    if ref.folder is not None:
        return {}
    return {
        "revision": ref.revision,
        "local_files_only": not is_hub_reachable(ref.id, ref.revision, suggest_model_fix(ref)),
    }


@cache
def is_hub_reachable(model: str, revision: str | None, fix: str) -> bool:
    """Check once whether the Hub is reachable, with a short timeout: the loaders would retry for half a minute.

    Raises NetworkError with `fix` if the Hub responds that it has no such model.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(model, revision=revision, timeout=MODEL_INFO_TIMEOUT)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as error:
        raise NetworkError(
            f"{model}: no such local folder, and on the Hub: {str(error).splitlines()[0]}", fix
        ) from error
    except Exception:  # the class depends on the HTTP library; the cache may have the files
        return False
    return True


def suggest_model_fix(ref: ModelRef) -> str:
    """Suggest a fix for a model that the Hub does not have, or a Hub that is unreachable."""
    local = "name a local folder" + ("" if ref.is_argument else f" with --{ref.kind}")
    nearest = None if ref.is_argument or ref.kind != "model" else find_nearest_word(ref.name, NETWORK_NAMES)
    suggestion = f"did you mean '{nearest}'? " if nearest else ""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return f"{suggestion}HF_HUB_OFFLINE=1 is set: unset it, or {local}"
    return f"{suggestion}check the name and the network, or {local}"
