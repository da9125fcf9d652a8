"""Where a model's files come from, and what is said when they do not come."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from llmkit.errors import LlmkitError, ModelError, NetworkError, find_nearest_word
from llmkit.models.scratch.sizes import NETWORK_NAMES
from llmkit.models.sources.model_ref import ModelRef

MODEL_INFO_TIMEOUT = 5.0


@contextmanager
def explain_loading_errors(ref: ModelRef) -> Iterator[None]:
    """Turn the library's many ways to fail at loading into one sentence about the model."""
    try:
        yield
    except (LlmkitError, MemoryError):
        raise
    except Exception as fault:  # a damaged folder makes the library fail in any way whatever
        lines = str(fault).split("\n")
        reason = lines[1:2] if lines[0].endswith(":") else []  # of a field: the first line only names it
        said = " ".join(" ".join([lines[0], *reason]).split())[:300].rstrip(".")
        if "trust_remote_code" in str(fault):
            raise ModelError(f"{ref.name}: needs code of its own repository, and llmkit runs none",
                             "name a model of an architecture that transformers has") from fault  # fmt: skip
        if ref.folder is None and isinstance(fault, OSError):
            raise NetworkError(
                f"{ref.name}: no such local folder, and the Hub did not give it: {said}", suggest_model_fix(ref)
            ) from fault
        raise ModelError(f"{ref.name}: {type(fault).__name__}: {said}", "check the folder and model.config") from fault


def get_source_kwargs(ref: ModelRef) -> dict[str, Any]:
    """How to ask for the files: of a local folder as it is, of the Hub with the revision, or of its cache alone."""
    if ref.folder is not None:
        return {}
    return {
        "revision": ref.revision,
        "local_files_only": not is_hub_reachable(ref.id, ref.revision, suggest_model_fix(ref)),
    }


@cache
def is_hub_reachable(model: str, revision: str | None, fix: str) -> bool:
    """Whether the Hub answers at all. Asked once, with a short limit: the loaders would retry for half a minute.

    Raises NetworkError, with `mend`, where it answers and has no such model.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        HfApi().model_info(model, revision=revision, timeout=MODEL_INFO_TIMEOUT)
    except (GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError) as fault:
        raise NetworkError(
            f"{model}: no such local folder, and on the Hub: {str(fault).splitlines()[0]}", fix
        ) from fault
    except Exception:  # the class depends on the HTTP library below; whatever it is, the cache may do
        return False
    return True


def suggest_model_fix(ref: ModelRef) -> str:
    """What helps when the Hub does not answer, or has no such model."""
    local = "name a local folder" + ("" if ref.is_argument else f" with --{ref.kind}")
    near = None if ref.is_argument or ref.kind != "model" else find_nearest_word(ref.name, NETWORK_NAMES)
    meant = f"did you mean '{near}'? " if near else ""
    if os.environ.get("HF_HUB_OFFLINE") == "1":
        return f"{meant}HF_HUB_OFFLINE=1 is set: unset it, or {local}"
    return f"{meant}check the name and the network, or {local}"
