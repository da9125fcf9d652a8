"""The run folder: a fresh name, one process at a time, nothing of somebody else's touched, nothing left behind."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmkit.errors import DiskError, LlmkitError, OutputError
from llmkit.runs import folder, manifest
from llmkit.runs.recipe_diff import RequestedRecipe


def opened(path: str | Path, fingerprint: str = "f", started: bool = False) -> None:
    with folder.open_run_folder(Path(path), RequestedRecipe(fingerprint)) as run:
        run.started = started


def refused(path: str | Path, fingerprint: str = "f", kind: type[LlmkitError] = OutputError) -> str:
    """The sentence that refuses the folder; choosing and opening it give the same one."""
    sentences = []
    for attempt in (
        lambda: folder.choose_run_folder(path, "x", RequestedRecipe(fingerprint)),
        lambda: opened(path, fingerprint),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        sentences.append(str(caught.value))
    assert sentences[0] == sentences[1]
    return sentences[0]


def below(path: str = ".") -> list[str]:
    return sorted(str(one) for one in Path(path).rglob("*"))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("classify-reviews", "runs/classify-reviews-1"),
        ("../../etc/passwd", "runs/etc-passwd-1"),
        ("a b\n\x1b[31mc", "runs/a-b-31mc-1"),
        ("评论.csv", "runs/评论-csv-1"),
        ("..", "runs/run-1"),
        ("", "runs/run-1"),
        ("😀" * 100, "runs/run-1"),
        ("评" * 300, f"runs/{'评' * 60}-1"),
    ],
)
def test_a_fresh_name_stays_below_runs(name: str, made: str) -> None:
    path = folder.choose_run_folder(None, name, RequestedRecipe("f"))
    assert str(path) == made
    assert below() == []
    opened(path, started=True)
    assert folder.choose_run_folder(None, name, RequestedRecipe("f")) == Path(made[:-1] + "2")


def test_a_run_that_starts_keeps_its_folder_and_gives_the_lock_back() -> None:
    opened("a/b/run", started=True)
    assert below() == ["a", "a/b", "a/b/run"]
    opened("a/b/run", started=True)


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_a_refused_run_leaves_nothing_behind(fault: type[BaseException]) -> None:
    Path("a").mkdir()

    def refused() -> None:
        with folder.open_run_folder(Path("a/b/run"), RequestedRecipe("f")):
            assert below() == ["a", "a/b", "a/b/run", "a/b/run/.lock"]
            raise fault

    with pytest.raises(fault):
        refused()
    assert below() == ["a"]


def test_what_others_put_beside_it_stays() -> None:
    with folder.open_run_folder(Path("a/run"), RequestedRecipe("f")):
        Path("a/theirs").touch()
    assert below() == ["a", "a/theirs"]


def test_the_home_folder_may_be_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    assert folder.choose_run_folder("~/run", "x", RequestedRecipe("f")) == Path.cwd() / "home/run"


def test_files_of_somebody_else_are_refused() -> None:
    Path("mine").mkdir()
    for name in "dcba":
        Path("mine", name).touch()
    assert refused("mine") == "mine: holds files that are no run (a, b, c); name another --output-dir"
    assert below("mine") == ["mine/a", "mine/b", "mine/c", "mine/d"]


def test_a_file_is_no_folder() -> None:
    Path("file").touch()
    assert refused("file") == "file: a file stands there; name another --output-dir"
    assert refused("file/run") == "file/run: Not a directory; name an --output-dir that can be written"
    assert below() == ["file"]


def begun(path: str, fingerprint: str) -> None:
    Path(path).mkdir()
    manifest.begin_manifest(Path(path), "text", {"recipe_sha256": fingerprint, "data": [], "precision": {}})


def test_another_run_is_refused_and_the_same_one_continued() -> None:
    begun("run", "theirs")
    said = "run: holds another, unfinished run; name another --output-dir, or remove the folder"
    assert refused("run", "mine") == said
    opened("run", "theirs")
    assert below("run") == ["run/run.json"]
    manifest.seal_manifest(Path("run"), [])
    said = "run: holds a finished run; name another --output-dir, or remove the folder"
    assert refused("run", "theirs") == said


def test_a_run_that_another_process_finished_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    begun("run", "f")
    hold = folder.lock_run_folder

    def late(path: Path) -> Any:
        manifest.seal_manifest(path, [])
        return hold(path)

    monkeypatch.setattr(folder, "hold", late)
    with pytest.raises(OutputError, match=r"^run: holds a finished run; "):
        opened("run", "f")
    assert below("run") == ["run/run.json"]


@pytest.mark.parametrize("fault", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_cannot_be_written_is_said(fault: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: Any) -> None:
        raise fault

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", refuse)
    assert refused("a/run") == f"a/run: {fault.strerror}; name an --output-dir that can be written"
    assert below() == []


def test_a_disk_nearly_full_is_said_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40, 3 * 2**20))
    with pytest.raises(DiskError) as caught:
        opened("a/run")
    mend = "free some space or name an --output-dir on another disk"
    assert str(caught.value) == f"a/run: 3 MiB free, the run needs 64 MiB; {mend}"
    assert caught.value.exit_code == 74
    with pytest.raises(DiskError):
        folder.choose_run_folder("a/run", "x", RequestedRecipe("f"))
    assert below() == []


HOLDER = """
import sys
from pathlib import Path
from llmkit.runs.changes import Asked
from llmkit.runs.folder import open_folder
with open_folder(Path("run"), Asked("f")) as run:
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder() -> Any:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_a_second_process_is_refused_at_once_with_the_first_ones_name(holder: Any) -> None:
    with pytest.raises(OutputError) as caught:
        opened("run")
    who = f"process {holder.pid} on {socket.gethostname()}"
    assert str(caught.value) == f"run: in use by {who}; wait for it or name another --output-dir"
    assert below() == ["run", "run/.lock"]


def test_a_process_that_was_killed_holds_nothing(holder: Any) -> None:
    holder.kill()
    holder.wait()
    assert below("run") == ["run/.lock"]
    opened("run", started=True)
    assert below("run") == []


def test_a_file_system_without_locks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OutputError) as caught:
        opened("run")
    assert str(caught.value) == "run: cannot be locked (No locks available); name an --output-dir on another disk"
    assert below() == []


def test_an_empty_folder_for_checkpoints_is_no_run_yet() -> None:
    """A process that was killed as it made its trainer leaves one."""
    Path("run/checkpoints").mkdir(parents=True)
    opened("run")
    Path("run/checkpoints/mine").touch()
    assert refused("run") == "run: holds files that are no run (checkpoints); name another --output-dir"
    shutil.rmtree("run/checkpoints")
    Path("run/checkpoints").touch()
    assert refused("run") == "run: holds files that are no run (checkpoints); name another --output-dir"
