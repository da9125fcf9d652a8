"""Read any source of rows: a file, a list of them, a mapping label -> file, a folder, a package's file, a Hub set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar, Union

from llmkit.data.readers import hub
from llmkit.data.readers.csv_tsv import read_delimited
from llmkit.data.readers.decode import ReadOptions, decode_text, decompress_file
from llmkit.data.readers.jsonl import read_json
from llmkit.data.readers.parquet import read_parquet
from llmkit.data.readers.pkg_uri import PKG_SCHEME, resolve_path
from llmkit.data.readers.text_files import list_class_files, read_class_folders, read_text_lines
from llmkit.data.row_errors import join_names
from llmkit.data.rows import Rows, concat_rows
from llmkit.errors import DataError, MissingInputError, find_nearest_word

__all__ = ["ReadOptions", "RowSource", "read_rows"]

SourceCollection = TypeVar("SourceCollection", Sequence["RowSource"], Mapping[str, "RowSource"])
RowSource: TypeAlias = Union[str, Path, Sequence["RowSource"], Mapping[str, "RowSource"]]  # noqa: UP007 (a string cannot be joined with |)

DELIMITED_FORMATS = {".csv": (",", "csv"), ".tsv": ("\t", "none"), ".tab": ("\t", "none")}
JSON_FORMATS = {".jsonl": False, ".ndjson": False, ".json": True}  # whether the file may be one array
FILE_EXTENSIONS = [*DELIMITED_FORMATS, *JSON_FORMATS, ".parquet", ".txt"]


def read_rows(source: RowSource, *, split_role: str = "train", options: ReadOptions = ReadOptions()) -> Rows:  # noqa: B008
    """All rows of `source`, every string as the file spells it, each row with its file and line.

    source: a path, `pkg://PACKAGE/PATH`, a Hub id `owner/name[:config][@revision]`, a folder of class folders or of
    `save_to_disk`, a list of sources (joined), or a mapping label -> source of lines (columns text and label).
    split_role: the split to take of a source that holds several. Raises DataError where a row or a file's form is
    wrong, MissingInputError where nothing is found, NetworkError where the Hub does not answer, RecipeError for a
    wrong option.
    """
    if isinstance(source, Mapping):
        return concat_rows([_labelled(str(label), files, options) for label, files in _some(source).items()])
    if source == "":
        raise DataError("no data is named", "name a file")
    if not isinstance(source, (str, Path)):
        return concat_rows([read_rows(one, split_role=split_role, options=options) for one in _some(source)])
    name = str(source)
    path = resolve_path(name)
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else None
        exists = path.exists()
    except OSError as e:
        raise _unreadable(name, e) from e
    if inside is not None:
        return _read_folder(path, inside, name, split_role, options)
    if exists:
        return _read_file(path, name, options)
    if can_be_hub_id(name):
        return hub.read_hub_dataset(name, split_role)
    raise make_missing_error(name, path)


def _read_file(path: Path, name: str, options: ReadOptions) -> Rows:
    data, ending = decompress_file(path, name)
    if ending not in FILE_EXTENSIONS:
        known = f"{' '.join(FILE_EXTENSIONS)}, also as .gz or .zip"
        if ending in (".xlsx", ".xls", ".ods"):
            raise DataError(f"{name}: a spreadsheet", "save it as CSV UTF-8")
        raise DataError(f"{name}: the ending '{ending}' names no known format", f"known: {known}")
    if not data:
        raise DataError(f"{name}: an empty file", "write rows into it")
    if ending == ".parquet":
        return read_parquet(data, name)
    decoded = decode_text(data, name, options.encoding)
    if ending in DELIMITED_FORMATS:
        return read_delimited(decoded, name, *DELIMITED_FORMATS[ending], options)
    if ending in JSON_FORMATS:
        return read_json(decoded, name, array=JSON_FORMATS[ending])
    return read_text_lines(decoded, name)


def _labelled(label: str, source: RowSource, options: ReadOptions) -> Rows:
    """One row of text and label a line of the files of one label."""
    if isinstance(source, Mapping):
        raise DataError(f"the files of label '{label}' are a mapping themselves", "name a file or a list of files")
    if not isinstance(source, (str, Path)):
        return concat_rows([_labelled(label, one, options) for one in _some(source)])
    name = str(source)
    path = resolve_path(name)
    try:
        is_file = path.is_file()
    except OSError as e:
        raise _unreadable(name, e) from e
    if not is_file:
        raise make_missing_error(name, path)
    data, ending = decompress_file(path, name)
    if ending in FILE_EXTENSIONS and ending != ".txt":
        what = f"{name}: the file of label '{label}' ends in {ending}, where each line is to be one text"
        raise DataError(what, "name it as data by itself, with a column of labels")
    return read_text_lines(decode_text(data, name, options.encoding), name, label)


def _read_folder(folder: Path, inside: list[Path], name: str, split: str, options: ReadOptions) -> Rows:
    names = [path.name + "/" * path.is_dir() for path in inside if not path.name.startswith(".")]
    if hub.SAVED_DATASET_FILES.intersection(names):
        return hub.read_saved_dataset(folder, name, split)
    files = list_class_files(inside)
    if files:
        return read_class_folders(folder, files, name, options.encoding)
    readable = [found for found in names if found.endswith(tuple(FILE_EXTENSIONS))]
    holds = f"it holds {join_names(names)}" if names else "it is empty"
    mend = f"name a file, such as {name.rstrip('/')}/{readable[0]}" if readable else "name a file of rows"
    if readable and all(found.endswith(".txt") for found in readable):
        pairs = ", ".join(f"{found.removesuffix('.txt')}: {name.rstrip('/')}/{found}" for found in readable[:2])
        mend = f"with one file a label write 'data.train={{{pairs}{', ...' if len(readable) > 2 else ''}}}'"
    raise DataError(
        f"{name}: a folder that is no data set (neither class folders of .txt nor save_to_disk): {holds}", mend
    )


def can_be_hub_id(name: str) -> bool:
    """Whether a name that is no path here can be that of a set on the Hub."""
    matched = hub.DATASET_ID.fullmatch(name)
    if not matched or name.startswith(PKG_SCHEME):
        return False
    # A known ending or a folder of the owner's name speaks of a local file that is missing.
    return not name.lower().endswith((*FILE_EXTENSIONS, ".gz", ".zip")) and not Path(name).parent.is_dir()


def _unreadable(name: str, error: OSError) -> MissingInputError:
    return MissingInputError(f"{name}: cannot be read: {error.strerror}", "check the name and its permissions")


def make_missing_error(name: str, path: Path) -> MissingInputError:
    """What to say of a path where no file is."""
    if path.is_dir():
        return MissingInputError(f"{name}: a folder, where a file is wanted", "name a file")
    if "*" in name or "?" in name:
        return MissingInputError(f"{name}: no such file", "patterns are not read: name a list, [a.csv, b.csv]")
    if name.replace(".", "", 1).isdigit():
        return MissingInputError(f"{name}: no such file", f"a share is held back with data.split.validation={name}")
    if not path.parent.is_dir():
        return MissingInputError(f"{name}: no such file; there is no folder '{path.parent}'", "check the path")
    names = sorted(found.name for found in path.parent.iterdir() if not found.name.startswith("."))
    near = find_nearest_word(path.name, names)
    there = "this folder" if path.parent == Path() else f"'{path.parent}'"
    holds = f"{there} holds {join_names(names)}" if names else f"{there} is empty"
    return MissingInputError(f"{name}: no such file", f"did you mean '{path.with_name(near)}'?" if near else holds)


def _some(sources: SourceCollection) -> SourceCollection:
    if not sources:
        raise DataError("no data is named", "name a file")
    return sources
