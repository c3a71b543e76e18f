"""`speechgru bench cells`: what a layer's sequence form saves in training."""

from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import out, plain, print_json
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.analysis.cell_costs import CellSpeed


@examples("speechgru bench cells --cells gru,lstm,mingru --steps 200")
def bench_cells(
    cells: Annotated[str, typer.Option(metavar="A,B,...", help="Cells to measure.")] = "all",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Steps of each sequence.")] = 500,
    hidden: Annotated[
        int, typer.Option(min=1, max=4096, metavar="N", help="Units of the layer.")
    ] = 128,
    batch: Annotated[int, typer.Option(min=1, metavar="N", help="Sequences in the batch.")] = 32,
    rounds: Annotated[
        int, typer.Option(min=1, metavar="N", help="Repetitions; the fastest counts.")
    ] = 3,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Time of one layer's forward and backward pass.

    The whole sequence at once is compared with one step after the other.
    """
    from speechgru.analysis.cell_costs import measure_cell
    from speechgru.analysis.comparison import parse_cells
    from speechgru.backends.torch_device import select_device

    names, chosen = parse_cells(cells), select_device(device)
    for name in names:
        if "+" in name:
            raise UsageError(f"--cells {name}: a single layer has no front; name the cell alone")
    found = []
    with progress_bar("cells") as progress:
        for done, name in enumerate(names, 1):
            found.append(measure_cell(name, hidden, steps, batch, chosen, rounds))  # type: ignore[arg-type]
            progress(done, len(names))
    if json:
        shape = {"steps": steps, "hidden": hidden, "batch": batch, "device": str(chosen)}
        print_json(shape | {"cells": [one.as_dict() for one in found]})
        return
    out.line(f"{steps} steps of {batch} sequences, {hidden} units, on {chosen}")
    _print(found)


def _print(found: "list[CellSpeed]") -> None:
    table = bare_table("cell", "sequence ms", "stepwise ms", "times faster", gap=2)
    for one in found:
        figures = f"{one.sequence_ms:.1f}", f"{one.stepwise_ms:.1f}", f"{one.speedup:.2f}"
        table.add_row(plain(one.cell), *figures)
    out.show(table)
