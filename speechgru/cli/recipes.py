"""`speechgru recipes`: lists the recipes that ship with the package, and where they are."""

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.terminal import out, plain, print_json


@examples("speechgru recipes", "speechgru train my-words --data my-words/")
def recipes(json: options.Json = False) -> None:
    """List the recipes that `train` takes by name."""
    from speechgru.training.recipe_files import DEFAULT_RECIPE, find_recipe, recipe_descriptions

    found = recipe_descriptions()
    if json:
        print_json(
            {
                "recipes": [
                    {"name": name, "description": text, "file": str(find_recipe(name))}
                    for name, text in found.items()
                ],
                "default": DEFAULT_RECIPE,
            }
        )
        return
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, text in found.items():
        table.add_row(plain(name), plain(text + " (the default)" * (name == DEFAULT_RECIPE)))
    out.show(table)
    out.line()
    out.line(f"Each is a TOML file in {find_recipe(DEFAULT_RECIPE).parent}")
    out.line("Copy one to change it, then: speechgru train my-recipe.toml --data DIR")
