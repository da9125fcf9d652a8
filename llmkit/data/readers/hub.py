"""Reader of `datasets` data sets, from the Hugging Face Hub or from a folder written by `save_to_disk`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from llmkit.data.readers.parquet import ValueDecoder, convert_table
from llmkit.data.row_errors import join_names
from llmkit.data.rows import Rows
from llmkit.errors import DataError, LlmkitError, NetworkError

DATASET_ID = re.compile(r"(?P<path>\w[\w.-]*/[\w.-]+)(?::(?P<config>[^@]+))?(?:@(?P<revision>.+))?")
SAVED_DATASET_FILES = {"dataset_dict.json", "dataset_info.json"}  # files that mark a folder of save_to_disk
DATASET_HUB_TIMEOUT = 5.0  # seconds


def read_saved_dataset(folder: Path, name: str, split: str) -> Rows:
    """Read a folder written by `save_to_disk`; of a DatasetDict, the split named `split`."""
    from datasets import DatasetDict, load_from_disk

    try:
        data = load_from_disk(str(folder))
    except Exception as e:  # a damaged folder raises errors of pyarrow, json or datasets
        raise DataError(f"{name}: not a readable datasets folder: {_first_line(e)}", "save it again") from e
    if isinstance(data, DatasetDict):
        if split not in data:
            fix = f"leave data.{split} out, or name a file"
            raise DataError(f"{name}: no split '{split}'; it has {join_names(list(data))}", fix)
        data = data[split]
    return _convert_dataset(data, name)


def read_hub_dataset(name: str, split: str) -> Rows:
    """Read the split of the Hub data set `owner/name[:config][@revision]`. No code from the Hub is run.

    Raises NetworkError if the Hub does not respond or has no such data set, DataError if the set has no such split.
    """
    from datasets import load_dataset

    match = DATASET_ID.fullmatch(name)
    if not match:
        raise DataError(f"{name}: not a Hub id", "write it as owner/name[:config][@revision]")
    path, config, revision = match["path"], match["config"], match["revision"]
    try:
        _check_dataset_exists(path, revision)
        data = load_dataset(path, name=config, revision=revision, split=split)
    except Exception as e:  # the Hub's client and `datasets` raise errors of a dozen modules
        raise _translate_hub_error(name, split, e) from e
    return _convert_dataset(data, name)


def _check_dataset_exists(path: str, revision: str | None) -> None:
    """Raise the error that load_dataset would raise after half a minute of retries."""
    from huggingface_hub import HfApi, constants

    if constants.HF_HUB_OFFLINE:
        return
    try:
        HfApi().dataset_info(path, revision=revision, timeout=DATASET_HUB_TIMEOUT)
    except (OSError, ValueError):
        raise
    except Exception as e:  # the HTTP library of the Hub's client, and so the error class, depends on its version
        raise ConnectionError(str(e)) from e


def _translate_hub_error(name: str, split: str, error: Exception) -> LlmkitError:
    from datasets.exceptions import DataFilesNotFoundError, DatasetNotFoundError
    from huggingface_hub import constants
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, DataFilesNotFoundError) or not isinstance(error, OSError):
        fix = "name another data set, or a file"
        if "split" in str(error).lower():
            fix = f"leave data.{split} out, or name a file"
        elif "config" in str(error).lower():
            fix = "name one as owner/name:CONFIG"
        return DataError(f"{name}: {_first_line(error)}", fix)
    if constants.HF_HUB_OFFLINE:
        what = "no such file, and no copy of a Hub data set while HF_HUB_OFFLINE is set"
        return NetworkError(f"{name}: {what}", "unset HF_HUB_OFFLINE, or name a local file")
    if isinstance(error, GatedRepoError):
        return NetworkError(f"{name}: a gated data set", "accept its terms on the Hub and log in with `hf auth login`")
    if isinstance(error, RevisionNotFoundError):
        return NetworkError(f"{name}: no such revision on the Hub", "name a branch, a tag or a commit after @")
    if isinstance(error, (RepositoryNotFoundError, DatasetNotFoundError)):
        return NetworkError(f"{name}: no such file, and no such data set on the Hub", "check the name, or log in")
    fix = "check the network, set HF_HUB_OFFLINE=1 to use a copy fetched before, or name a local file"
    return NetworkError(f"{name}: no such file, and the Hub did not respond ({type(error).__name__})", fix)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _convert_dataset(data: Any, name: str) -> Rows:
    decoders = {column: decode for column, feature in data.features.items() if (decode := _class_decoder(feature))}
    return convert_table(data.with_format("arrow")[:], name, decoders)


def _class_decoder(feature: Any) -> ValueDecoder | None:
    """Return a function from class ids to names, also inside lists; None for a feature without classes."""
    from datasets import ClassLabel, LargeList, List

    if isinstance(feature, ClassLabel):
        names = feature.names
        return lambda i: names[i] if i is not None and i >= 0 else None  # -1: an unlabeled row
    if isinstance(feature, (List, LargeList)) and (inner := _class_decoder(feature.feature)):
        return lambda ids: None if ids is None else [inner(i) for i in ids]
    return None
