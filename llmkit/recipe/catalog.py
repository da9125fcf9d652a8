"""The recipes that ship with llmkit: list, find, show, copy."""

from __future__ import annotations

from pathlib import Path

from llmkit.errors import MissingInputError, OutputError, find_nearest_word
from llmkit.tasks import list_tasks

DATA_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".txt", ".gz", ".zip")
PROFILES_FOLDER = "profiles"  # a folder of what launchers read: no recipes
RECIPE_SECTIONS = ("model", "data", "train", "eval", *list_tasks())


def get_recipes_folder() -> Path:
    """The folder of shipped recipes: inside the wheel, or beside the package in an editable install."""
    package = Path(__file__).parents[1]
    inside = package / "_recipes"
    return inside if inside.is_dir() else package.parent / "recipes"


def list_recipes() -> dict[str, str]:
    """Each shipped recipe's name (`classify/bbc-headlines`) and the first line of its header."""
    return {
        path.relative_to(get_recipes_folder()).with_suffix("").as_posix(): path.read_text(encoding="utf-8")
        .split("\n")[0]
        .lstrip("# ")
        for path in sorted(get_recipes_folder().rglob("*.yaml"))
        if path.parent.name != PROFILES_FOLDER
    }


def find_recipe(name: str) -> Path:
    """The recipe file that `name` means: a path, or a shipped recipe's name. Raises MissingInputError."""
    path = Path(name)
    if path.suffix.lower() in DATA_SUFFIXES or name.startswith("pkg://"):
        raise MissingInputError(f"{name}: data, not a recipe", f"write --train {name}")
    if path.is_file():
        return path
    if "." in name and name.split(".")[0] in RECIPE_SECTIONS:
        raise MissingInputError(f"{name}: no such recipe", f"a key is changed as {name}=VALUE, without spaces")
    bare = name.removeprefix("recipes/").removesuffix(".yaml")
    shipped = get_recipes_folder() / f"{bare}.yaml"
    if bare in list_recipes():
        return shipped
    if path.is_dir():
        raise MissingInputError(f"{name}: a folder, not a recipe", f"name its {name.rstrip('/')}/recipe.yaml")
    beside = [str(one) for one in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
    near = find_nearest_word(name, beside) or find_nearest_word(bare, list(list_recipes()))
    mend = f"did you mean '{near}'?" if near else "`llmkit recipes list` names the shipped ones"
    raise MissingInputError(f"{name}: no such recipe", mend)


def copy_recipe(name: str, target: Path) -> Path:
    """The path of a fresh copy of a recipe; `target` is a file to make or a folder. Never overwrites."""
    source = find_recipe(name)
    place = target / source.name if target.is_dir() else target
    try:
        with place.open("x", encoding="utf-8") as file:
            file.write(source.read_text(encoding="utf-8"))
    except FileExistsError:
        raise OutputError(f"{place}: exists", "name another file") from None
    except OSError as fault:
        raise OutputError(f"{place}: {fault.strerror}", "name a folder that exists and can be written") from None
    return place
