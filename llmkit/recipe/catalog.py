"""Catalog of the recipes that ship with llmkit: list, find and copy them."""

from __future__ import annotations

from pathlib import Path

from llmkit.errors import MissingInputError, OutputError, find_nearest_word
from llmkit.tasks import list_tasks

DATA_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".gz", ".zip")
PROFILES_FOLDER = "profiles"  # a folder of launcher configurations, not recipes
RECIPE_SECTIONS = ("model", "data", "train", "eval", *list_tasks())


def get_recipes_folder() -> Path:
    """Return the folder of shipped recipes: inside the wheel, or next to the package in an editable install."""
    package = Path(__file__).parents[1]
    inside = package / "_recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def list_recipes() -> dict[str, str]:
    """Map the name of each shipped recipe (`classify/bbc-headlines`) to the first line of its header."""
    return {
        path.relative_to(get_recipes_folder()).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        .split("\n")[0]
        .lstrip("# ")
        for path in sorted(get_recipes_folder().rglob("*.yaml"))
        if path.parent.name != PROFILES_FOLDER
    }


def find_recipe(name: str) -> Path:
    """Find a recipe file by its path, or by the name of a shipped recipe. Raises MissingInputError."""
    path = Path(name)
    if path.suffix.lower() in DATA_SUFFIXES or name.startswith("pkg://"):
        raise MissingInputError(f"{name}: data, not a recipe", f"write --train {name}")
    if path.is_file():
        return path
    if "." in name and name.split(".")[0] in RECIPE_SECTIONS:
        raise MissingInputError(f"{name}: no such recipe", f"a key is changed as {name}=VALUE, without spaces")
    stem = name.removeprefix("recipes/").removesuffix(".yaml")
    if stem in list_recipes():
        return get_recipes_folder() / f"{stem}.yaml"
    if path.is_dir():
        raise MissingInputError(f"{name}: a folder, not a recipe", f"name its {name.rstrip('/')}/recipe.yaml")
    siblings = [str(one) for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = find_nearest_word(name, siblings) or find_nearest_word(stem, list(list_recipes()))
    fix = f"did you mean '{near}'?" if near else "`llmkit recipes list` names the shipped ones"
    raise MissingInputError(f"{name}: no such recipe", fix)


def copy_recipe(name: str, target: Path) -> Path:
    """Copy a recipe to `target`, a new file or a folder, and return the path of the copy. Never overwrites."""
    source = find_recipe(name)
    path = target / source.name if target.is_dir() else target
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise OutputError(f"{path}: exists", "name another file") from None
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror}", "name a folder that exists and can be written") from None
    return path
