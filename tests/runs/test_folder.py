"""Tests of the run folder: a free name, one process at a time, foreign files untouched, nothing left behind."""

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


def open_once(path: str | Path, fingerprint: str = "f", started: bool = False) -> None:
    with folder.open_run_folder(Path(path), RequestedRecipe(fingerprint)) as run:
        run.started = started


def get_error(path: str | Path, fingerprint: str = "f", kind: type[LlmkitError] = OutputError) -> str:
    """The error message for the folder, which must be the same for choosing and opening it."""
    messages = []
    for attempt in (
        lambda: folder.choose_run_folder(path, "x", RequestedRecipe(fingerprint)),
        lambda: open_once(path, fingerprint),
    ):
        with pytest.raises(kind) as caught:
            attempt()
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
    return messages[0]


def list_below(path: str = ".") -> list[str]:
    return sorted(str(one) for one in Path(path).rglob("*"))


@pytest.mark.parametrize(
    ("name", "path"),
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
def test_a_new_name_stays_below_runs(name: str, path: str) -> None:
    chosen = folder.choose_run_folder(None, name, RequestedRecipe("f"))
    assert str(chosen) == path
    assert list_below() == []
    open_once(chosen, started=True)
    assert folder.choose_run_folder(None, name, RequestedRecipe("f")) == Path(path[:-1] + "2")


def test_a_started_run_keeps_its_folder_and_releases_the_lock() -> None:
    open_once("a/b/run", started=True)
    assert list_below() == ["a", "a/b", "a/b/run"]
    open_once("a/b/run", started=True)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_rejected_run_leaves_nothing_behind(error: type[BaseException]) -> None:
    Path("a").mkdir()

    def open_and_fail() -> None:
        with folder.open_run_folder(Path("a/b/run"), RequestedRecipe("f")):
            assert list_below() == ["a", "a/b", "a/b/run", "a/b/run/.lock"]
            raise error

    with pytest.raises(error):
        open_and_fail()
    assert list_below() == ["a"]


def test_foreign_files_next_to_the_folder_are_kept() -> None:
    with folder.open_run_folder(Path("a/run"), RequestedRecipe("f")):
        Path("a/theirs").touch()
    assert list_below() == ["a", "a/theirs"]


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd() / "home"))
    assert folder.choose_run_folder("~/run", "x", RequestedRecipe("f")) == Path.cwd() / "home/run"


def test_a_folder_with_foreign_files_is_rejected() -> None:
    Path("mine").mkdir()
    for name in "dcba":
        Path("mine", name).touch()
    assert get_error("mine") == "mine: holds files that are not a run (a, b, c); name another --output-dir"
    assert list_below("mine") == ["mine/a", "mine/b", "mine/c", "mine/d"]


def test_a_file_is_rejected() -> None:
    Path("file").touch()
    assert get_error("file") == "file: a file, not a folder; name another --output-dir"
    assert get_error("file/run") == "file/run: Not a directory; name an --output-dir that can be written"
    assert list_below() == ["file"]


def begin_run(path: str, fingerprint: str) -> None:
    Path(path).mkdir()
    manifest.begin_manifest(Path(path), "text", {"recipe_sha256": fingerprint, "data": [], "precision": {}})


def test_another_run_is_rejected_and_the_same_one_resumed() -> None:
    begin_run("run", "theirs")
    message = "run: holds another, unfinished run; name another --output-dir, or remove the folder"
    assert get_error("run", "mine") == message
    open_once("run", "theirs")
    assert list_below("run") == ["run/run.json"]
    manifest.seal_manifest(Path("run"), [])
    message = "run: holds a finished run; name another --output-dir, or remove the folder"
    assert get_error("run", "theirs") == message


def test_a_run_finished_by_another_process_meanwhile_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    begin_run("run", "f")
    lock = folder.lock_run_folder

    def finish_first(path: Path) -> Any:
        manifest.seal_manifest(path, [])
        return lock(path)

    monkeypatch.setattr(folder, "lock_run_folder", finish_first)
    with pytest.raises(OutputError, match=r"^run: holds a finished run; "):
        open_once("run", "f")
    assert list_below("run") == ["run/run.json"]


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")])
def test_a_folder_that_cannot_be_written_is_reported(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise error

    monkeypatch.setattr(folder.tempfile, "TemporaryFile", fail)
    assert get_error("a/run") == f"a/run: {error.strerror}; name an --output-dir that can be written"
    assert list_below() == []


def test_a_nearly_full_disk_is_reported_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(2**40, 2**40, 3 * 2**20))
    with pytest.raises(DiskError) as caught:
        open_once("a/run")
    fix = "free some space or name an --output-dir on another disk"
    assert str(caught.value) == f"a/run: 3 MiB free, the run needs 64 MiB; {fix}"
    assert caught.value.exit_code == 74
    with pytest.raises(DiskError):
        folder.choose_run_folder("a/run", "x", RequestedRecipe("f"))
    assert list_below() == []


HOLDER = """
import sys
from pathlib import Path
from llmkit.runs.folder import open_run_folder
from llmkit.runs.recipe_diff import RequestedRecipe
with open_run_folder(Path("run"), RequestedRecipe("f")) as run:
    print("locked", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder() -> Any:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "locked\n"
    yield process
    process.kill()
    process.communicate()


@pytest.mark.slow
def test_a_second_process_is_rejected_with_the_name_of_the_first(holder: Any) -> None:
    with pytest.raises(OutputError) as caught:
        open_once("run")
    who = f"process {holder.pid} on {socket.gethostname()}"
    assert str(caught.value) == f"run: in use by {who}; wait for it or name another --output-dir"
    assert list_below() == ["run", "run/.lock"]


@pytest.mark.slow
def test_a_killed_process_releases_its_lock(holder: Any) -> None:
    holder.kill()
    holder.wait()
    assert list_below("run") == ["run/.lock"]
    open_once("run", started=True)
    assert list_below("run") == []


def test_a_file_system_without_locks_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fail)
    with pytest.raises(OutputError) as caught:
        open_once("run")
    assert str(caught.value) == "run: cannot be locked (No locks available); name an --output-dir on another disk"
    assert list_below() == []


def test_an_empty_checkpoints_folder_is_not_a_run() -> None:
    """A process that was killed while it built its trainer leaves one."""
    Path("run/checkpoints").mkdir(parents=True)
    open_once("run")
    Path("run/checkpoints/mine").touch()
    assert get_error("run") == "run: holds files that are not a run (checkpoints); name another --output-dir"
    shutil.rmtree("run/checkpoints")
    Path("run/checkpoints").touch()
    assert get_error("run") == "run: holds files that are not a run (checkpoints); name another --output-dir"
