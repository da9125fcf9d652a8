"""From a recipe's `data:` section to checked splits: what a run trains on, and what `llmkit eval` finds again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from llmkit.data import leaks
from llmkit.data.columns import KINDS, guess, need
from llmkit.data.corpus import stream as corpus_stream
from llmkit.data.corpus.documents import documents, gathered
from llmkit.data.readers.decode import ReadOptions
from llmkit.data.readers.pkg_uri import locate
from llmkit.data.readers.read import read
from llmkit.data.row_errors import listed
from llmkit.data.rows import Rows
from llmkit.data.split import split_off
from llmkit.errors import RecipeError
from llmkit.runs.manifest import file_hash
from llmkit.schema import DataSection, SplitSection


class Reader(Protocol):
    """What reading must know of a task."""

    @property
    def columns(self) -> Any: ...
    @property
    def optional(self) -> Any: ...
    @property
    def target(self) -> str | None: ...
    @property
    def cells(self) -> Any: ...
    @property
    def may_be_empty(self) -> Any: ...
    @property
    def corpus(self) -> bool: ...
    def kept(self, rows: Rows) -> tuple[Rows, list[str]]: ...
    def strata(self, rows: Rows) -> Any: ...


@dataclass(frozen=True)
class Splits:
    """The rows of a run by split, the columns that were used, and what there is to say about them."""

    train: Rows
    others: dict[str, Rows]
    columns: dict[str, str]
    sources: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
    stream: corpus_stream.Stream | None = None  # reads all training documents; `train` is a sample of them

    def judged(self) -> tuple[str, Rows]:
        """The split that metrics.json speaks of: test where there is one, else validation."""
        name = "test" if "test" in self.others else "validation"
        if name not in self.others:
            raise RecipeError("data.split: neither test nor validation rows", "name data.test or set data.split.test")
        return name, self.others[name]

    def files(self) -> list[dict[str, Any]]:
        """Name, size and sha256 of every source: a file's own hash, for a folder one over the files that were read."""
        read = {name for rows in (self.train, *self.others.values()) for name in rows.files}
        if self.stream is not None:
            read.update(corpus_stream.files(list(self.sources)))
        return [fingerprint(source, sorted(read)) for source in self.sources]


def fingerprint(source: str, read: Sequence[str]) -> dict[str, Any]:
    """What the manifest says of a source; a Hub set has no file here, its name must do."""
    path = locate(source)
    if path.is_file():
        return {"name": source, "bytes": path.stat().st_size, "sha256": file_hash(path)}
    inside = [name for name in read if name.startswith(f"{source.rstrip('/')}/") and locate(name).is_file()]
    if not inside:
        return {"name": source, "bytes": None, "sha256": None}
    digest = hashlib.sha256()
    for name in inside:
        digest.update(f"{name.removeprefix(source)}\0{file_hash(locate(name))}\n".encode())
    size = sum(locate(name).stat().st_size for name in inside)
    return {"name": source, "files": len(inside), "bytes": size, "sha256": digest.hexdigest()}


def sources(*given: Any) -> tuple[str, ...]:
    """The names of all files, folders and sets in `data.train` and its like, each once."""
    found: dict[str, None] = {}
    for one in given:
        if isinstance(one, str):
            found[one] = None
        elif one is not None:
            found |= dict.fromkeys(sources(*(one.values() if isinstance(one, dict) else one)))
    return tuple(found)


def options(section: DataSection) -> ReadOptions:
    """How the recipe wants files to be read."""
    return ReadOptions(section.encoding, section.delimiter, section.quoting, section.on_empty)


def read_splits(section: DataSection, task: Reader) -> Splits:
    """Train, validation and test rows with their columns mapped, split off where not named, and leaks handled.

    Raises what reading, mapping and splitting raise, and RecipeError where no training data is named.
    """
    if section.train is None:
        raise RecipeError("data.train: missing", "name the training rows with --train FILE")
    if section.streaming:
        return read_stream(section, task)
    named = {"train": section.train, "validation": section.validation, "test": section.test}
    read_rows = {
        name: read_source(one, name, section, task, section.columns) for name, one in named.items() if one is not None
    }
    columns, notes = guess(read_rows["train"], task.columns, section.columns, task.optional)
    mapped = {}
    for name, rows in read_rows.items():
        mapped[name], said = checked(rows, columns, section, task)
        notes += said
    train = mapped.pop("train")
    inputs = [word for word in columns if word != task.target]
    shares = missing_shares(section, mapped)
    notes += without_effect(section, mapped, task)
    strata = task.strata(train)
    if shares:
        classes, sets = strata or (None, None)
        parts, said = split_off(train, shares, section.split.seed, inputs, classes, sets)
        train, mapped = parts.pop("train"), mapped | parts
        notes += said
    train, said = (train, []) if task.corpus else leaks.apply(train, mapped, section.on_leak, inputs)
    return Splits(train, mapped, dict(columns), sources(*named.values()), notes + said)


def read_stream(section: DataSection, task: Reader) -> Splits:
    """A sample of the training documents, what is held back, and the stream of all."""
    word = next(iter(task.columns))
    sample, others, stream = corpus_stream.streamed(section, options(section), section.columns.get(word))
    columns = {word: sample.columns[0]}
    mapped = {name: rows.rename({word: rows.columns[0]}) for name, rows in others.items()}
    held = ", ".join(f"{name} {len(rows):,}" for name, rows in mapped.items()) or "none held back"
    notes = [f"streaming: a sample of {len(sample):,} documents in memory; {held}"]
    named = sources(section.train, section.validation, section.test)
    return Splits(sample.rename(columns), mapped, columns, named, notes, stream)


def read_source(source: Any, role: str, section: DataSection, task: Reader, columns: Mapping[str, str]) -> Rows:
    """The rows of a source: as its file has them, or for a corpus its documents."""
    if not task.corpus:
        return read(source, split_role=role, options=options(section))
    column = columns.get(next(iter(task.columns)))
    found = documents(source, unit=section.document, column=column, options=options(section), split_role=role)
    return gathered(found, column or "text", listed(sources(source), shown=1))


def checked(rows: Rows, columns: Mapping[str, str], section: DataSection, task: Reader) -> tuple[Rows, list[str]]:
    """The rows with their columns mapped and every cell one that the task can read; and notes."""
    kinds = KINDS | dict(task.cells)
    found, notes = need(rows, columns, kinds=kinds, may_be_empty=task.may_be_empty, on_empty=section.on_empty)
    kept, said = task.kept(found)
    return kept, notes + said


def missing_shares(section: DataSection, named: Iterable[str]) -> dict[str, float]:
    """What is to be split off: a missing validation always, a missing test only when neither was named."""
    wanted = {} if "validation" in named else {"validation": section.split.validation}
    if "validation" not in named and "test" not in named:
        wanted["test"] = section.split.test
    return {name: share for name, share in wanted.items() if share > 0}


def without_effect(section: DataSection, named: Mapping[str, Rows], task: Reader) -> list[str]:
    """Notes on keys that were changed, while the files or the task make them needless."""
    usual, found = SplitSection(), []
    for name in ("validation", "test"):
        share, files = getattr(section.split, name), [f"data.{one}" for one in named if one in (name, "validation")]
        if files and share not in (0, getattr(usual, name)):
            found.append(f"data.split.{name}={share:g} has no effect beside {files[0]}")
    if task.corpus and section.on_leak != DataSection().on_leak:
        found.append(f"data.on_leak={section.on_leak} has no effect: equal documents of a corpus are no leak")
    if not task.corpus and section.document != DataSection().document:
        found.append(f"data.document={section.document} has no effect: these rows are no corpus")
    return found


def source_name(section: DataSection) -> str:
    """A short word for the training data, for the name of a run folder."""
    source = section.train
    if isinstance(source, dict):
        source = next(iter(source.values()))
    if isinstance(source, list):
        source = source[0]
    return Path(str(source).split("://")[-1]).name.split(".")[0] if source else "run"
