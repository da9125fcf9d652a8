"""From a recipe's `data:` section to checked splits: what a run trains on, and what `llmkit eval` finds again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llmkit.data import leaks
from llmkit.data.columns import DEFAULT_CELL_TYPES, apply_column_mapping, guess_columns
from llmkit.data.corpus import stream as corpus_stream
from llmkit.data.corpus.documents import collect_documents, read_documents
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import resolve_path
from llmkit.data.readers.read import read_rows
from llmkit.data.row_errors import join_names
from llmkit.data.rows import Rows
from llmkit.data.split import split_rows
from llmkit.errors import RecipeError
from llmkit.runs.manifest import hash_file
from llmkit.schema import DataSection, SplitSection


class TaskDataSpec(Protocol):
    """What reading must know of a task."""

    @property
    def columns(self) -> Any: ...
    @property
    def optional(self) -> Any: ...
    @property
    def target(self) -> str | None: ...
    @property
    def cell_types(self) -> Any: ...
    @property
    def may_be_empty(self) -> Any: ...
    @property
    def is_corpus(self) -> bool: ...
    def filter_rows(self, rows: Rows) -> tuple[Rows, list[str]]: ...
    def stratify_by(self, rows: Rows) -> Any: ...


@dataclass(frozen=True)
class Splits:
    """The rows of a run by split, the columns that were used, and what there is to say about them."""

    train: Rows
    holdout: dict[str, Rows]
    columns: dict[str, str]
    sources: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    stream: corpus_stream.DocumentStream | None = None  # reads all training documents; `train` is a sample of them

    def scored_split(self) -> tuple[str, Rows]:
        """The split that metrics.json speaks of: test where there is one, else validation."""
        name = "test" if "test" in self.holdout else "validation"
        if name not in self.holdout:
            raise RecipeError("data.split: neither test nor validation rows", "name data.test or set data.split.test")
        return name, self.holdout[name]

    def fingerprint_sources(self) -> list[dict[str, Any]]:
        """Name, size and sha256 of every source: a file's own hash, for a folder one over the files that were read."""
        read = {name for rows in (self.train, *self.holdout.values()) for name in rows.files}
        if self.stream is not None:
            read.update(corpus_stream.list_corpus_files(list(self.sources)))
        return [fingerprint_source(source, sorted(read)) for source in self.sources]


def fingerprint_source(source: str, read: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of a source; a Hub set has no file here, its name must do."""
    path = resolve_path(source)
    if path.is_file():
        return {"name": source, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    inside = [name for name in read if name.startswith(f"{source.rstrip('/')}/") and resolve_path(name).is_file()]
    if not inside:
        return {"name": source, "bytes": None, "sha256": None}
    digest = hashlib.sha256()
    for name in inside:
        digest.update(f"{name.removeprefix(source)}\0{hash_file(resolve_path(name))}\n".encode())
    size = sum(resolve_path(name).stat().st_size for name in inside)
    return {"name": source, "files": len(inside), "bytes": size, "sha256": digest.hexdigest()}


def flatten_sources(*given: Any) -> tuple[str, ...]:
    """The names of all files, folders and sets in `data.train` and its like, each once."""
    found: dict[str, None] = {}
    for one in given:
        if isinstance(one, str):
            found[one] = None
        elif one is not None:
            found |= dict.fromkeys(flatten_sources(*(one.values() if isinstance(one, dict) else one)))
    return tuple(found)


def build_read_options(section: DataSection) -> ReadOptions:
    """How the recipe wants files to be read."""
    return ReadOptions(section.encoding, section.delimiter, section.quoting, section.on_empty)


def read_splits(section: DataSection, task: TaskDataSpec) -> Splits:
    """Train, validation and test rows with their columns mapped, split off where not named, and leaks handled.

    Raises what reading, mapping and splitting raise, and RecipeError where no training data is named.
    """
    if section.train is None:
        raise RecipeError("data.train: missing", "name the training rows with --train FILE")
    if section.streaming:
        return read_streamed_splits(section, task)
    named = {"train": section.train, "validation": section.validation, "test": section.test}
    read_rows = {
        name: read_task_rows(one, name, section, task, section.columns)
        for name, one in named.items()
        if one is not None
    }
    columns, notes = guess_columns(read_rows["train"], task.columns, section.columns, task.optional)
    mapped = {}
    for name, rows in read_rows.items():
        mapped[name], said = map_and_filter(rows, columns, section, task)
        notes += said
    train = mapped.pop("train")
    inputs = [word for word in columns if word != task.target]
    shares = choose_split_fractions(section, mapped)
    notes += find_unused_keys(section, mapped, task)
    strata = task.stratify_by(train)
    if shares:
        classes, sets = strata or (None, None)
        parts, said = split_rows(train, shares, section.split.seed, inputs, classes, sets)
        train, mapped = parts.pop("train"), mapped | parts
        notes += said
    train, said = (train, []) if task.is_corpus else leaks.handle_leaks(train, mapped, section.on_leak, inputs)
    return Splits(train, mapped, dict(columns), flatten_sources(*named.values()), notes + said)


def read_streamed_splits(section: DataSection, task: TaskDataSpec) -> Splits:
    """A sample of the training documents, what is held back, and the stream of all."""
    word = next(iter(task.columns))
    sample, others, stream = corpus_stream.open_document_stream(
        section, build_read_options(section), section.columns.get(word)
    )
    columns = {word: sample.columns[0]}
    mapped = {name: rows.with_column_mapping({word: rows.columns[0]}) for name, rows in others.items()}
    held = ", ".join(f"{name} {len(rows):,}" for name, rows in mapped.items()) or "none held back"
    notes = [f"streaming: a sample of {len(sample):,} documents in memory; {held}"]
    named = flatten_sources(section.train, section.validation, section.test)
    return Splits(sample.with_column_mapping(columns), mapped, columns, named, notes, stream)


def read_task_rows(
    source: Any, role: str, section: DataSection, task: TaskDataSpec, columns: Mapping[str, str]
) -> Rows:
    """The rows of a source: as its file has them, or for a corpus its documents."""
    if not task.is_corpus:
        return read_rows(source, split_role=role, options=build_read_options(section))
    column = columns.get(next(iter(task.columns)))
    found = read_documents(
        source, unit=section.document_unit, column=column, options=build_read_options(section), split_role=role
    )
    return collect_documents(found, column or "text", join_names(flatten_sources(source), limit=1))


def map_and_filter(
    rows: Rows, columns: Mapping[str, str], section: DataSection, task: TaskDataSpec
) -> tuple[Rows, list[str]]:
    """The rows with their columns mapped and every cell one that the task can read; and notes."""
    kinds = DEFAULT_CELL_TYPES | dict(task.cell_types)
    found, notes = apply_column_mapping(
        rows, columns, cell_types=kinds, may_be_empty=task.may_be_empty, on_empty=section.on_empty
    )
    kept, said = task.filter_rows(found)
    return kept, notes + said


def choose_split_fractions(section: DataSection, named: Iterable[str]) -> dict[str, float]:
    """What is to be split off: a missing validation always, a missing test only when neither was named."""
    wanted = {} if "validation" in named else {"validation": section.split.validation}
    if "validation" not in named and "test" not in named:
        wanted["test"] = section.split.test
    return {name: share for name, share in wanted.items() if share > 0}


def find_unused_keys(section: DataSection, named: Mapping[str, Rows], task: TaskDataSpec) -> list[str]:
    """Notes on keys that were changed, while the files or the task make them needless."""
    usual, found = SplitSection(), []
    for name in ("validation", "test"):
        share, files = getattr(section.split, name), [f"data.{one}" for one in named if one in (name, "validation")]
        if files and share not in (0, getattr(usual, name)):
            found.append(f"data.split.{name}={share:g} has no effect beside {files[0]}")
    if task.is_corpus and section.on_leak != DataSection().on_leak:
        found.append(f"data.on_leak={section.on_leak} has no effect: equal documents of a corpus are no leak")
    if not task.is_corpus and section.document_unit != DataSection().document_unit:
        found.append(f"data.document_unit={section.document_unit} has no effect: these rows are no corpus")
    return found


def get_source_name(section: DataSection) -> str:
    """A short word for the training data, for the name of a run folder."""
    source = section.train
    if isinstance(source, dict):
        source = next(iter(source.values()))
    if isinstance(source, list):
        source = source[0]
    return Path(str(source).split("://")[-1]).name.split(".")[0] if source else "run"
