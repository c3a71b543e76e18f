"""The recipe of each cell: the same but for the cell, its width and the seed."""

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from speechgru.corpora.corpus import Task
from speechgru.errors import UsageError
from speechgru.model.cells import CELL_NAMES
from speechgru.model.fronts import FRONT_NAMES
from speechgru.training.recipe import Recipe, parse_recipe
from speechgru.training.trainer import build_model

#: What all cells have alike.
Match = Literal["parameters", "width"]
MATCHES: tuple[str, ...] = get_args(Match)
#: Parameters may differ by this share.
TOLERANCE = 0.03
#: A Transformer's width is shared out among heads.
_MULTIPLES = {"transformer": 2}
_WIDEST = 2048


def parse_cells(text: str) -> tuple[str, ...]:
    """Names of cells from a list with commas; "all" is every one.

    A cell stands behind the recipe's front, or behind the one that is named before it: "stack+gru"
    next to "gru" shows what the convolutions of a CRNN give.

    Raises:
        UsageError: one is unknown or comes twice.
    """
    names = CELL_NAMES if text == "all" else tuple(part.strip() for part in text.split(","))
    for name in names:
        front, plus, cell = name.rpartition("+")
        if cell not in CELL_NAMES:
            raise UsageError(f"--cells {name!r}: none of {', '.join(CELL_NAMES)}")
        if plus and front not in FRONT_NAMES:
            raise UsageError(f"--cells {name!r}: no front of {', '.join(FRONT_NAMES)}")
    if len(set(names)) < len(names):
        raise UsageError(f"--cells {text}: each cell once")
    return names


def variant(recipe: Recipe, cell: str, hidden: int, seed: int | None = None) -> Recipe:
    """The recipe with another cell (and front, see `parse_cells`), width and seed."""
    table = recipe.model_dump(mode="json")
    front, _, name = cell.rpartition("+")
    table["training"]["begin_with"] = ""  # no two of them could begin with one model's weights
    table["model"] |= {"cell": name, "hidden": hidden, "front": front or recipe.model.front}
    if seed is not None:
        table["training"]["seed"] = seed
    return parse_recipe(table, f"the recipe with {cell}")


def variants(recipe: Recipe, task: Task, cells: Sequence[str], match: Match) -> dict[str, Recipe]:
    """The recipe of each cell.

    With "parameters" the width of each cell is chosen so that the network has as many parameters as
    that of the recipe itself, to 3 %.

    Raises:
        UsageError: no width of a cell does, or a setting does not fit a cell.
    """
    if match == "width":
        return {cell: variant(recipe, cell, recipe.model.hidden) for cell in cells}
    wanted = count_parameters(recipe, task)
    return {cell: variant(recipe, cell, solve_width(recipe, task, cell, wanted)) for cell in cells}


def solve_width(recipe: Recipe, task: Task, cell: str, wanted: int) -> int:
    """The width with which a cell's network comes nearest to so many parameters.

    Raises:
        UsageError: the nearest is further away than 3 %.
    """
    if cell == recipe.model.cell and count_parameters(recipe, task) == wanted:
        return recipe.model.hidden
    multiple = _MULTIPLES.get(cell.rpartition("+")[2], 1)

    def count(units: int) -> int:
        return count_parameters(variant(recipe, cell, units * multiple), task)

    low, high = 1, 8
    while count(high) < wanted and high * multiple < _WIDEST:  # wide networks take long to make
        low, high = high, 2 * high
    while low < high:  # the first width with at least as many
        middle = (low + high) // 2
        low, high = (low, middle) if count(middle) >= wanted else (middle + 1, high)
    nearest = min((low, max(1, low - 1)), key=lambda units: abs(count(units) - wanted))
    found = count(nearest)
    if abs(found - wanted) > TOLERANCE * wanted:
        raise UsageError(
            f"no width of {cell!r} gives {wanted:,} parameters to {100 * TOLERANCE:g} %; the "
            f"nearest, {nearest * multiple}, gives {found:,}: a larger model.hidden is needed"
        )
    return nearest * multiple


def count_parameters(recipe: Recipe, task: Task) -> int:
    """Trainable numbers of a recipe's network for a task."""
    with torch.random.fork_rng(devices=[]):
        return build_model(recipe, task, torch.device("cpu")).parameter_count
