"""Where recipes lie: by path, or by name in the package. Neither torch nor pydantic is needed."""

import tomllib
from pathlib import Path

from speechgru.common.wording import did_you_mean
from speechgru.errors import UsageError

DEFAULT_RECIPE = "speech-commands-v2-12"
#: In an installed package, and in a source tree.
_FOLDERS = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[2] / "recipes")


def recipe_names() -> list[str]:
    """The recipes that ship with the package."""
    return sorted({path.stem for folder in _FOLDERS for path in folder.glob("*.toml")})


def recipe_descriptions() -> dict[str, str]:
    """What each recipe that ships says of itself, by name."""
    found = {}
    for name in recipe_names():
        table = tomllib.loads(find_recipe(name).read_text(encoding="utf-8"))
        found[name] = str(table.get("description", ""))
    return found


def find_recipe(name: str) -> Path:
    """A recipe's file, by path or by the name of one that ships with the package.

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
    raise UsageError(
        f"recipe {name!r}: no such file, and none of the recipes that ship: "
        f"{', '.join(recipe_names())}{did_you_mean(name, recipe_names())}"
    )
