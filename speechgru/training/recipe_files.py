"""Finds recipes by path, or by name in the package, without importing torch or pydantic."""

import tomllib
from pathlib import Path

from speechgru.common.wording import did_you_mean
from speechgru.errors import UsageError

DEFAULT_RECIPE = "speech-commands-v2-12"
#: In an installed package, and in the source tree.
_FOLDERS = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[2] / "recipes")


def recipe_names() -> list[str]:
    """Names of the bundled recipes."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.toml")})


def recipe_descriptions() -> dict[str, str]:
    """The description of each bundled recipe, by name."""
    found = {}
    for name in recipe_names():
        table = tomllib.loads(find_recipe(name).read_text(encoding="utf-8"))
        found[name] = str(table.get("description", ""))
    return found


def find_recipe(name: str) -> Path:
    """A recipe's file, by path or by the name of a bundled recipe.

    Raises:
        UsageError: there is none.
    """
    if name.endswith(".toml") or Path(name).is_file():
        if not Path(name).is_file():
            raise UsageError(f"{name}: no such recipe file")
        return Path(name)
    for folder in _FOLDERS:
        if (folder / f"{name}.toml").is_file():
            return folder / f"{name}.toml"
    if name and Path(name).is_dir():
        raise UsageError(
            f"{name}: is a directory, not a recipe; recordings are given with --data, such as "
            f"my-words --data {name}"
        )
    raise UsageError(
        f"recipe {name!r}: not a file, and not one of the bundled recipes: "
        f"{', '.join(recipe_names())}{did_you_mean(name, recipe_names())}"
    )
