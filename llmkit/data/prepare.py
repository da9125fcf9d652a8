"""Preparation of splits from a recipe's `data` section: read, map columns, check cells, split and handle leaks."""

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
    """The part of the Task contract that data preparation needs."""

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
    """Rows of a run by split, with the columns that they use and notes for the user."""

    train: Rows
    holdout: dict[str, Rows]
    """Split name ("validation", "test") -> rows."""
    columns: dict[str, str]
    """Task field -> column."""
    sources: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    stream: corpus_stream.DocumentStream | None = None
    """Reader of all training documents; `train` is then a sample of them."""

    def scored_split(self) -> tuple[str, Rows]:
        """Return name and rows of the split that metrics.json reports: test if there is one, else validation."""
        name = "test" if "test" in self.holdout else "validation"
        if name not in self.holdout:
            raise RecipeError("data.split: neither test nor validation rows", "name data.test or set data.split.test")
        return name, self.holdout[name]

    def fingerprint_sources(self) -> list[dict[str, Any]]:
        """Return name, size and sha256 of every source; for a folder, of the files that were read from it."""
        files = {name for rows in (self.train, *self.holdout.values()) for name in rows.files}
        if self.stream is not None:
            files.update(corpus_stream.list_corpus_files(list(self.sources)))
        return [fingerprint_source(source, sorted(files)) for source in self.sources]


def fingerprint_source(source: str, files: Sequence[str]) -> dict[str, Any]:
    """Return the manifest entry of a source: name, size in bytes and sha256, both None for a Hub data set.

    files: all files that were read, in sorted order; those inside the source are hashed if it is a folder.
    """
    path = resolve_path(source)
    if path.is_file():
        return {"name": source, "bytes": path.stat().st_size, "sha256": hash_file(path)}
    inside = [name for name in files if name.startswith(f"{source.rstrip('/')}/") and resolve_path(name).is_file()]
    if not inside:
        return {"name": source, "bytes": None, "sha256": None}
    digest = hashlib.sha256()
    for name in inside:
        digest.update(f"{name.removeprefix(source)}\0{hash_file(resolve_path(name))}\n".encode())
    size = sum(resolve_path(name).stat().st_size for name in inside)
    return {"name": source, "files": len(inside), "bytes": size, "sha256": digest.hexdigest()}


def flatten_sources(*sources: Any) -> tuple[str, ...]:
    """Return the unique names of all files, folders and sets in values of `data.train`, `.validation` and `.test`."""
    names: dict[str, None] = {}
    for source in sources:
        if isinstance(source, str):
            names[source] = None
        elif source is not None:
            names |= dict.fromkeys(flatten_sources(*(source.values() if isinstance(source, dict) else source)))
    return tuple(names)


def build_read_options(section: DataSection) -> ReadOptions:
    """Return the options of the recipe for reading files."""
    return ReadOptions(section.encoding, section.delimiter, section.quoting, section.on_empty)


def read_splits(section: DataSection, task: TaskDataSpec) -> Splits:
    """Read train, validation and test rows: map columns, split off missing splits from train, and handle leaks.

    Raises RecipeError if no training data is given, and the errors of reading, mapping and splitting.
    """
    if section.train is None:
        raise RecipeError("data.train: missing", "name the training rows with --train FILE")
    if section.streaming:
        return read_streamed_splits(section, task)
    sources = {"train": section.train, "validation": section.validation, "test": section.test}
    raw = {
        name: read_task_rows(source, name, section, task, section.columns)
        for name, source in sources.items()
        if source is not None
    }
    columns, notes = guess_columns(raw["train"], task.columns, section.columns, task.optional)
    mapped = {}
    for name, rows in raw.items():
        mapped[name], new_notes = map_and_filter(rows, columns, section, task)
        notes += new_notes
    train = mapped.pop("train")
    inputs = [name for name in columns if name != task.target]
    fractions = choose_split_fractions(section, mapped)
    notes += find_unused_keys(section, mapped, task)
    strata = task.stratify_by(train)
    if fractions:
        classes, label_sets = strata or (None, None)
        parts, new_notes = split_rows(train, fractions, section.split.seed, inputs, classes, label_sets)
        train, mapped = parts.pop("train"), mapped | parts
        notes += new_notes
    train, new_notes = (train, []) if task.is_corpus else leaks.handle_leaks(train, mapped, section.on_leak, inputs)
    return Splits(train, mapped, dict(columns), flatten_sources(*sources.values()), notes + new_notes)


def read_streamed_splits(section: DataSection, task: TaskDataSpec) -> Splits:
    """Read a sample of the training documents and the holdout splits, and open the stream of all documents."""
    name = next(iter(task.columns))
    sample, holdout, stream = corpus_stream.open_document_stream(
        section, build_read_options(section), section.columns.get(name)
    )
    columns = {name: sample.columns[0]}
    mapped = {split: rows.with_column_mapping({name: rows.columns[0]}) for split, rows in holdout.items()}
    counts = ", ".join(f"{split} {len(rows):,}" for split, rows in mapped.items()) or "no validation or test split"
    notes = [f"streaming: a sample of {len(sample):,} documents in memory; {counts}"]
    sources = flatten_sources(section.train, section.validation, section.test)
    return Splits(sample.with_column_mapping(columns), mapped, columns, sources, notes, stream)


def read_task_rows(
    source: Any, role: str, section: DataSection, task: TaskDataSpec, columns: Mapping[str, str]
) -> Rows:
    """Read the rows of a source; for a corpus task, its documents."""
    if not task.is_corpus:
        return read_rows(source, split_role=role, options=build_read_options(section))
    column = columns.get(next(iter(task.columns)))
    documents = read_documents(
        source, unit=section.document_unit, column=column, options=build_read_options(section), split_role=role
    )
    return collect_documents(documents, column or "text", join_names(flatten_sources(source), limit=1))


def map_and_filter(
    rows: Rows, columns: Mapping[str, str], section: DataSection, task: TaskDataSpec
) -> tuple[Rows, list[str]]:
    """Map the columns, check every cell, and keep the rows that the task uses; returns rows and notes."""
    mapped, notes = apply_column_mapping(
        rows,
        columns,
        cell_types=DEFAULT_CELL_TYPES | dict(task.cell_types),
        may_be_empty=task.may_be_empty,
        on_empty=section.on_empty,
    )
    kept, task_notes = task.filter_rows(mapped)
    return kept, notes + task_notes


def choose_split_fractions(section: DataSection, given: Iterable[str]) -> dict[str, float]:
    """Return the fractions to split off train: validation if not given, test if neither is given."""
    fractions = {} if "validation" in given else {"validation": section.split.validation}
    if "validation" not in given and "test" not in given:
        fractions["test"] = section.split.test
    return {name: fraction for name, fraction in fractions.items() if fraction > 0}


def find_unused_keys(section: DataSection, given: Mapping[str, Rows], task: TaskDataSpec) -> list[str]:
    """Return notes on keys that were set but have no effect with the given splits or the task."""
    default, notes = SplitSection(), []
    for name in ("validation", "test"):
        fraction = getattr(section.split, name)
        files = [f"data.{split}" for split in given if split in (name, "validation")]
        if files and fraction not in (0, getattr(default, name)):
            notes.append(f"data.split.{name}={fraction:g} has no effect because {files[0]} is set")
    if task.is_corpus and section.on_leak != DataSection().on_leak:
        notes.append(f"data.on_leak={section.on_leak} has no effect: equal documents of a corpus do not count as leaks")
    if not task.is_corpus and section.document_unit != DataSection().document_unit:
        notes.append(f"data.document_unit={section.document_unit} has no effect: the task does not read a corpus")
    return notes


def get_source_name(section: DataSection) -> str:
    """Return a short name of the training data, for the name of a run folder."""
    source = section.train
    if isinstance(source, dict):
        source = next(iter(source.values()))
    if isinstance(source, list):
        source = source[0]
    return Path(str(source).split("://")[-1]).name.split(".")[0] if source else "run"
