"""`speechgru bench cells`: what a layer's sequence form saves in training."""

from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import out, print_json, progress_bar
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.analysis.cell_costs import CellSpeed


def bench_cells(
    cells: Annotated[
        str, typer.Option(metavar="A,B,...", help="Which cells; all is every one.")
    ] = "all",
    steps: Annotated[int, typer.Option(min=1, help="Length of the sequences.")] = 500,
    hidden: Annotated[int, typer.Option(min=1, max=4096, help="Units of the layer.")] = 128,
    batch: Annotated[int, typer.Option(min=1, help="Sequences.")] = 32,
    rounds: Annotated[int, typer.Option(min=1, help="Repetitions; the quickest counts.")] = 3,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Forward and backward pass of one layer: the whole sequence, and step by step."""
    from speechgru.analysis.cell_costs import measure_cell
    from speechgru.analysis.comparison import parse_cells
    from speechgru.backends.torch_device import select_device

    names, chosen = parse_cells(cells), select_device(device)
    for name in names:
        if "+" in name:
            raise UsageError(f"--cells {name!r}: a layer alone has no front")
    found = []
    with progress_bar("cells") as progress:
        for done, name in enumerate(names, 1):
            found.append(measure_cell(name, hidden, steps, batch, chosen, rounds))  # type: ignore[arg-type]
            if progress is not None:
                progress(done, len(names))
    if json:
        shape = {"steps": steps, "hidden": hidden, "batch": batch, "device": str(chosen)}
        print_json(shape | {"cells": [one.as_dict() for one in found]})
        return
    _print(found, f"{steps} steps of {batch} sequences, {hidden} units, on {chosen}")


def _print(found: "list[CellSpeed]", title: str) -> None:
    out.line(title)
    out.line(f"{'cell':12} {'sequence ms':>12} {'stepwise ms':>12} {'times faster':>13}")
    for one in found:
        out.line(
            f"{one.cell:12} {one.sequence_ms:12.1f} {one.stepwise_ms:12.1f} {one.speedup:13.2f}"
        )
