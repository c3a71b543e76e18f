"""Shell completion of recipes, bundled models and splits.

Each function gets what has been typed; if it finds nothing, the shell completes file names.
"""


def complete_model(incomplete: str) -> list[str]:
    """Bundled models."""
    from speechgru.modelfile.bundled import bundled_models

    return [name for name in bundled_models() if name.startswith(incomplete)]


def complete_recipe(incomplete: str) -> list[tuple[str, str]]:
    """Recipes that ship with the package, each with its description."""
    from speechgru.training.recipe_files import recipe_descriptions

    found = recipe_descriptions()
    return [(name, text) for name, text in found.items() if name.startswith(incomplete)]


def complete_split(incomplete: str) -> list[str]:
    """The three splits."""
    names = ("training", "validation", "testing")
    return [name for name in names if name.startswith(incomplete)]
