"""Tests that a checkpoint is complete or absent, and that a changed byte is detected."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmkit.errors import DiskError
from llmkit.runs import checkpoint, durable

ABOUT = {"run": "r", "processes": 1, "rows": 64, "needs": []}
CONTENT = {"weights.safetensors": b"\x01\x02" * 40, "state.json": b'{"a": 1}', "empty": b""}


class Killed(BaseException):
    pass


def save(root: Path, step: int, run: str = "r", needs: tuple[int, ...] = ()) -> checkpoint.Checkpoint:
    writers = {name: lambda path, data=data: path.write_bytes(data) for name, data in CONTENT.items()}
    return checkpoint.commit_checkpoint(root, step, {**ABOUT, "run": run, "needs": list(needs)}, writers)


def test_a_manifest_describes_and_verifies_the_files(tmp_path: Path) -> None:
    saved = save(tmp_path, 40)
    assert saved.path == tmp_path / "checkpoint-40"
    assert checkpoint.verify_checkpoint(saved.path).manifest["files"]["state.json"]["bytes"] == 8
    assert (saved.step, saved.size_bytes) == (40, 88)


@pytest.mark.slow
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_flipped_or_lost_byte_is_detected(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    root = tmp_path_factory.mktemp("c")
    path = save(root, 3).path
    file = data.draw(st.sampled_from(sorted(one for one in path.iterdir() if one.stat().st_size)))
    content = bytearray(file.read_bytes())
    at = int(data.draw(st.floats(0, 1, exclude_max=True)) * len(content))
    if data.draw(st.booleans()):
        content[at] ^= 1 << data.draw(st.integers(0, 7))
    else:
        del content[at:]
    file.write_bytes(content)
    with pytest.raises(checkpoint.DamagedCheckpointError):
        checkpoint.verify_checkpoint(path)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda path: (path / "state.json").unlink(), "state.json is missing"),
        (lambda path: (path / "more").touch(), "more is not one of its files"),
        (lambda path: (path / "MANIFEST.json").unlink(), "MANIFEST.json is missing or cannot be read"),
        (lambda path: (path / "state.json").write_bytes(b"{}"), "state.json has 2 bytes, 8 were written"),
        (lambda path: (path / "state.json").write_bytes(b'{"a": 2}'), "state.json has changed since it was written"),
    ],
)  # fmt: skip
def test_the_newest_valid_one_is_found_and_a_damaged_one_quarantined(
    tmp_path: Path, damage: object, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 9)
    bad = save(tmp_path, 10).path
    damage(bad)  # type: ignore[operator]
    os.utime(tmp_path / "checkpoint-9", (0, 0))  # file times do not matter
    found = checkpoint.find_newest_checkpoint(tmp_path, "r")
    assert found is not None
    assert found.step == 9
    assert capsys.readouterr().err == f"{bad}: damaged: {why}; renamed to checkpoint-10.corrupt\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-10.corrupt", "checkpoint-9"]


def test_only_the_checkpoint_of_the_given_step_is_found(tmp_path: Path) -> None:
    save(tmp_path, 9)
    (save(tmp_path, 10).path / "state.json").unlink()
    save(tmp_path, 11)
    assert checkpoint.find_newest_checkpoint(tmp_path, "r", only_step=10) is None
    assert sorted(one.name for one in tmp_path.iterdir()) == ["checkpoint-10.corrupt", "checkpoint-11", "checkpoint-9"]
    found = checkpoint.find_newest_checkpoint(tmp_path, "r", only_step=9)
    assert found is not None
    assert found.step == 9


def test_clearing_keeps_quarantined_checkpoints(tmp_path: Path) -> None:
    checkpoint.quarantine_checkpoint(save(tmp_path, 9).path)
    save(tmp_path, 10)
    (tmp_path / ".tmp-11-ab").mkdir()
    checkpoint.clear_checkpoints(tmp_path)
    save(tmp_path / "checkpoints", 10)
    checkpoint.clear_checkpoints(tmp_path / "checkpoints")
    checkpoint.clear_checkpoints(tmp_path / "none")
    assert [one.name for one in tmp_path.iterdir()] == ["checkpoint-9.corrupt"]


def test_one_of_another_run_or_without_its_best_is_skipped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2, run="another")
    save(tmp_path, 3, needs=(2,))
    found = checkpoint.find_newest_checkpoint(tmp_path, "r")
    assert found is not None
    assert found.step == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/checkpoint-2: skipped: it belongs to another run",
        f"{tmp_path}/checkpoint-3: skipped: the best checkpoint before it, checkpoint-2, is missing",
        f"{tmp_path}/checkpoint-2: skipped: it belongs to another run",
    ]


def test_pruning_keeps_the_newest_and_the_required_ones(tmp_path: Path) -> None:
    for step in (9, 10, 100, 20, 30):
        save(tmp_path, step)
    checkpoint.prune_checkpoints(tmp_path, {100, 9}, 3)
    assert checkpoint.list_checkpoint_steps(tmp_path) == [100, 30, 9]
    checkpoint.prune_checkpoints(tmp_path, {100, 9}, 1)
    assert checkpoint.list_checkpoint_steps(tmp_path) == [100, 9]
    for step, needed in ((110, 9), (120, 120)):
        save(tmp_path, step, needs=(needed,))
    checkpoint.prune_checkpoints(tmp_path, {120}, 2)
    assert checkpoint.list_checkpoint_steps(tmp_path) == [120, 110, 9]  # 110 requires its best checkpoint


@pytest.mark.parametrize("error", [Killed(), OSError(28, "No space left on device")], ids=["kill", "full"])
def test_a_failed_disk_change_keeps_the_previous_checkpoint_valid(
    tmp_path: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails the disk change n = 1, 2, 3 ... until a save completes."""
    save(tmp_path, 1)
    failures, messages = 0, []
    while True:
        calls = 0

        def fail(what: str, path: Path, number: int = failures + 1) -> None:
            nonlocal calls
            calls += 1
            if calls == number:
                raise error

        monkeypatch.setattr(durable, "before_disk_change", fail)
        try:
            save(tmp_path, 2)
        except Killed:
            checkpoint.remove_partial_checkpoints(tmp_path)
        except DiskError as full:
            messages.append(str(full))
        else:
            break
        monkeypatch.setattr(durable, "before_disk_change", lambda *_: None)
        # After the rename the new one is complete; only its name may not be synced yet.
        found = checkpoint.find_newest_checkpoint(tmp_path, "r")
        assert found is not None
        assert found.step in (1, 2)
        assert not list(tmp_path.glob("*.corrupt"))
        assert {one.name for one in tmp_path.iterdir()} <= {"checkpoint-1", "checkpoint-2"}
        if found.step == 2:
            durable.remove_folder(found.path)
        failures += 1
    assert all(one.startswith(f"{tmp_path}/checkpoint-2: No space left on device (") for one in messages)
    assert failures == 12  # folder, write and sync of four files, sync of the folder, rename, sync of its parent
