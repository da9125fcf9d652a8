"""Reader of any data source: file, list of sources, mapping label -> files, folder, package file, or Hub data set."""

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
    """Read all rows of `source`; strings keep the file's spelling, and each row has its file and line.

    source: a path, `pkg://PACKAGE/PATH`, a Hub id `owner/name[:config][@revision]`, a folder of class folders or of
    `save_to_disk`, a list of sources (concatenated), or a mapping label -> text files (columns text and label).
    split_role: the split to read of a source with several. Raises DataError for an invalid row or file,
    MissingInputError for a missing file, NetworkError if the Hub does not respond, RecipeError for an invalid option.
    """
    if isinstance(source, Mapping):
        return concat_rows([_read_labeled(str(label), files, options) for label, files in _non_empty(source).items()])
    if source == "":
        raise DataError("no data source is given", "name a file")
    if not isinstance(source, (str, Path)):
        return concat_rows([read_rows(one, split_role=split_role, options=options) for one in _non_empty(source)])
    name = str(source)
    path = resolve_path(name)
    try:
        inside = sorted(path.iterdir()) if path.is_dir() else None
        exists = path.exists()
    except OSError as e:
        raise _unreadable_error(name, e) from e
    if inside is not None:
        return _read_folder(path, inside, name, split_role, options)
    if exists:
        return _read_file(path, name, options)
    if can_be_hub_id(name):
        return hub.read_hub_dataset(name, split_role)
    raise make_missing_error(name, path)


def _read_file(path: Path, name: str, options: ReadOptions) -> Rows:
    data, extension = decompress_file(path, name)
    if extension not in FILE_EXTENSIONS:
        known = f"{' '.join(FILE_EXTENSIONS)}, also as .gz or .zip"
        if extension in (".xlsx", ".xls", ".ods"):
            raise DataError(f"{name}: a spreadsheet", "save it as CSV UTF-8")
        raise DataError(f"{name}: unknown file extension '{extension}'", f"known: {known}")
    if not data:
        raise DataError(f"{name}: an empty file", "write rows into it")
    if extension == ".parquet":
        return read_parquet(data, name)
    text = decode_text(data, name, options.encoding)
    if extension in DELIMITED_FORMATS:
        return read_delimited(text, name, *DELIMITED_FORMATS[extension], options)
    if extension in JSON_FORMATS:
        return read_json(text, name, array=JSON_FORMATS[extension])
    return read_text_lines(text, name)


def _read_labeled(label: str, source: RowSource, options: ReadOptions) -> Rows:
    """Read the text files of one label: one row of text and label for each line."""
    if isinstance(source, Mapping):
        raise DataError(f"the files of label '{label}' are a mapping themselves", "name a file or a list of files")
    if not isinstance(source, (str, Path)):
        return concat_rows([_read_labeled(label, one, options) for one in _non_empty(source)])
    name = str(source)
    path = resolve_path(name)
    try:
        is_file = path.is_file()
    except OSError as e:
        raise _unreadable_error(name, e) from e
    if not is_file:
        raise make_missing_error(name, path)
    data, extension = decompress_file(path, name)
    if extension in FILE_EXTENSIONS and extension != ".txt":
        what = f"{name}: the file of label '{label}' ends in {extension}, but must have one text per line"
        raise DataError(what, "pass it as a data file of its own, with a column of labels")
    return read_text_lines(decode_text(data, name, options.encoding), name, label)


def _read_folder(folder: Path, inside: list[Path], name: str, split: str, options: ReadOptions) -> Rows:
    names = [path.name + "/" * path.is_dir() for path in inside if not path.name.startswith(".")]
    if hub.SAVED_DATASET_FILES.intersection(names):
        return hub.read_saved_dataset(folder, name, split)
    files = list_class_files(inside)
    if files:
        return read_class_folders(folder, files, name, options.encoding)
    readable = [file for file in names if file.endswith(tuple(FILE_EXTENSIONS))]
    content = f"it holds {join_names(names)}" if names else "it is empty"
    fix = f"name a file, such as {name.rstrip('/')}/{readable[0]}" if readable else "name a file of rows"
    if readable and all(file.endswith(".txt") for file in readable):
        pairs = ", ".join(f"{file.removesuffix('.txt')}: {name.rstrip('/')}/{file}" for file in readable[:2])
        fix = f"with one file per label write 'data.train={{{pairs}{', ...' if len(readable) > 2 else ''}}}'"
    what = f"{name}: not a data set folder (neither class folders of .txt nor save_to_disk): {content}"
    raise DataError(what, fix)


def can_be_hub_id(name: str) -> bool:
    """Return whether a name that is not an existing path can be the id of a data set on the Hub."""
    match = hub.DATASET_ID.fullmatch(name)
    if not match or name.startswith(PKG_SCHEME):
        return False
    # A known extension or an existing parent folder means that a local file is missing.
    return not name.lower().endswith((*FILE_EXTENSIONS, ".gz", ".zip")) and not Path(name).parent.is_dir()


def _unreadable_error(name: str, error: OSError) -> MissingInputError:
    return MissingInputError(f"{name}: cannot be read: {error.strerror}", "check the name and its permissions")


def make_missing_error(name: str, path: Path) -> MissingInputError:
    """Return the error for a path that is not a file, with a fix for common mistakes."""
    if path.is_dir():
        return MissingInputError(f"{name}: a folder, but a file is needed", "name a file")
    if "*" in name or "?" in name:
        return MissingInputError(f"{name}: no such file", "patterns are not expanded: name a list, [a.csv, b.csv]")
    if name.replace(".", "", 1).isdigit():
        return MissingInputError(
            f"{name}: no such file", f"to split off a share of train, set data.split.validation={name}"
        )
    if not path.parent.is_dir():
        return MissingInputError(f"{name}: no such file; there is no folder '{path.parent}'", "check the path")
    names = sorted(sibling.name for sibling in path.parent.iterdir() if not sibling.name.startswith("."))
    near = find_nearest_word(path.name, names)
    folder = "this folder" if path.parent == Path() else f"'{path.parent}'"
    content = f"{folder} holds {join_names(names)}" if names else f"{folder} is empty"
    return MissingInputError(f"{name}: no such file", f"did you mean '{path.with_name(near)}'?" if near else content)


def _non_empty(sources: SourceCollection) -> SourceCollection:
    if not sources:
        raise DataError("no data source is given", "name a file")
    return sources
