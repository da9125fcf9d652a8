"""Data sets of the `datasets` library: from the Hub, or a folder that `save_to_disk` wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llmkit.data.readers.parquet import ValueDecoder, convert_table
from llmkit.data.row_errors import join_names
from llmkit.data.rows import Rows
from llmkit.errors import DataError, LlmkitError, NetworkError

DATASET_ID = re.compile(r"(?P<path>\w[\w.-]*/[\w.-]+)(?::(?P<config>[^@]+))?(?:@(?P<revision>.+))?")
SAVED_DATASET_FILES = {"dataset_dict.json", "dataset_info.json"}  # what save_to_disk leaves
DATASET_HUB_TIMEOUT = 5.0


def read_saved_dataset(folder: Path, name: str, split: str) -> Rows:
    """Rows of a folder that `save_to_disk` wrote; of its split named `split` when it holds several."""
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(folder))
    except Exception as e:  # whatever a damaged folder makes pyarrow, json or datasets raise
        raise DataError(f"{name}: not a readable datasets folder: {_first_line(e)}", "save it again") from e
    if isinstance(data, DatasetDict):
        if split not in data:
            mend = f"leave data.{split} out, or name a file"
            raise DataError(f"{name}: no split '{split}'; it has {join_names(list(data))}", mend)
        data = data[split]
    return _rows(data, name)


def read_hub_dataset(name: str, split: str) -> Rows:
    """Rows of `owner/name[:config][@revision]`, its split named `split`. No code from the Hub is run.

    Raises NetworkError when the Hub does not answer or has no such set, DataError when the set has no such split.
    """
    from datasets import load_dataset

    matched = DATASET_ID.fullmatch(name)
    if not matched:
        raise DataError(f"{name}: not a Hub id", "write it as owner/name[:config][@revision]")
    path, config, revision = matched["path"], matched["config"], matched["revision"]
    try:
        _ask(path, revision)
        data = load_dataset(path, name=config, revision=revision, split=split)
    except Exception as e:  # the Hub's client and `datasets` raise errors of a dozen modules
        raise _refusal(name, split, e) from e
    return _rows(data, name)


def _ask(path: str, revision: str | None) -> None:
    """Raise at once what load_dataset would raise after half a minute of retries."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(path, revision=revision, timeout=DATASET_HUB_TIMEOUT)
    except (OSError, ValueError):
        raise
    except Exception as e:  # which HTTP library the Hub's client uses, and so the class, changes with its version
        raise ConnectionError(str(e)) from e


def _refusal(name: str, split: str, error: Exception) -> LlmkitError:
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, DataFilesNotFoundError) or not isinstance(error, OSError):
        mend = "name another data set, or a file"
        if "split" in str(error).lower():
            mend = f"leave data.{split} out, or name a file"
        elif "config" in str(error).lower():
            mend = "name one as owner/name:CONFIG"
        return DataError(f"{name}: {_first_line(error)}", mend)
    if constants.HF_HUB_OFFLINE:
        what = "no such file, and no copy of a Hub data set while HF_HUB_OFFLINE is set"
        return NetworkError(f"{name}: {what}", "unset HF_HUB_OFFLINE, or name a local file")
    if isinstance(error, GatedRepoError):
        return NetworkError(f"{name}: a gated data set", "accept its terms on the Hub and log in with `hf auth login`")
    if isinstance(error, RevisionNotFoundError):
        return NetworkError(f"{name}: no such revision on the Hub", "name a branch, a tag or a commit after @")
    if isinstance(error, (RepositoryNotFoundError, DatasetNotFoundError)):
        return NetworkError(f"{name}: no such file, and no such data set on the Hub", "check the name, or log in")
    mend = "check the network, set HF_HUB_OFFLINE=1 to use a copy fetched before, or name a local file"
    return NetworkError(f"{name}: no such file, and the Hub did not answer ({type(error).__name__})", mend)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _rows(data: Any, name: str) -> Rows:
    decoders = {column: decode for column, feature in data.features.items() if (decode := _class_names(feature))}
    return convert_table(data.with_format("arrow")[:], name, decoders)


def _class_names(feature: Any) -> ValueDecoder | None:
    """What turns a column's class ids into names, also inside lists; None for a column without classes."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        names = feature.names
        return lambda i: names[i] if i is not None and i >= 0 else None  # -1: an unlabelled row
    if isinstance(feature, (List, LargeList)) and (inner := _class_names(feature.feature)):
        return lambda ids: None if ids is None else [inner(i) for i in ids]
    return None
