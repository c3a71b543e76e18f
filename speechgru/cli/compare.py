"""`speechgru compare`: recurrent cells trained and scored under the same conditions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_recipe
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_recipe
from speechgru.cli.interrupts import stop_on_signals
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import err, out, print_json
from speechgru.cli.views.training import live_run
from speechgru.errors import InterruptedRunError, UsageError

if TYPE_CHECKING:
    import torch

    from speechgru.analysis.comparison import PlannedRun
    from speechgru.analysis.comparison_report import RunResult
    from speechgru.training.data import TrainingData


@examples(
    "speechgru compare --data speech_commands/",
    "speechgru compare cells --data my-words/ --cells gru,lstm,mingru --seeds 3",
    "speechgru compare --data my-words/ --cells all --costs-only",
)
def compare(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a recipe or a TOML file.",
            autocompletion=complete_recipe,
        ),
    ] = "cells",
    cells: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Cells to compare, or all. FRONT+CELL sets the front too: stack+gru has no "
            "convolutions.",
        ),
    ] = "rnn,lstm,gru,gru-cho,mgu,ligru,mingru,ssm,transformer",
    match: Annotated[
        str,
        typer.Option(
            metavar="M", help="What the networks have in common: parameters (within 3 %) or width."
        ),
    ] = "parameters",
    seeds: Annotated[int, typer.Option(min=1, metavar="N", help="Runs of each cell.")] = 1,
    data: options.Data = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="Directory for runs and tables. [default: runs/RECIPE]"
        ),
    ] = None,
    overrides: options.Overrides = None,
    costs_only: Annotated[
        bool,
        typer.Option("--costs-only", help="Only count parameters, time and memory; no training."),
    ] = False,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Train several recurrent cells under the same conditions.

    After Ctrl-C, run the same command again to continue with what is left.
    """
    from speechgru.analysis.comparison import MATCHES, parse_cells, plan_runs
    from speechgru.analysis.comparison_report import make_rows, write_tables
    from speechgru.backends.torch_device import select_device
    from speechgru.training.data import prepare

    if match not in MATCHES:
        raise UsageError(f"--match {match}: use one of {', '.join(MATCHES)}")
    names, chosen = parse_cells(cells), select_device(device)
    settings = open_recipe(recipe, overrides or [], data)
    folder = out_dir or Path("runs") / Path(recipe).stem
    options.check_out_dir(folder)
    with progress_bar("decoding") as progress:
        of_all = prepare(settings, progress)
    runs = plan_runs(settings, of_all, names, match, seeds, folder, err.line)  # type: ignore[arg-type]
    results = _costs(runs, of_all, chosen) if costs_only else _results(runs, of_all, chosen)
    reference = settings.model.cell if settings.model.cell in names else names[0]
    rows = make_rows(results, reference)
    title = f"{of_all.task.protocol} of {of_all.corpus.root.name}: the same {match}"
    try:
        tables = write_tables(rows, reference, folder, "costs" if costs_only else "compare")
        if not costs_only:
            from speechgru.analysis.comparison_report import save_comparison_picture

            save_comparison_picture(rows, title, folder / "compare.png")
    finally:  # what took long is not lost where a file cannot be written
        if json:
            found: dict[str, Any] = {"protocol": of_all.task.protocol, "match": match}
            found |= {"reference": reference, "rows": [row.as_dict() for row in rows]}
            print_json(found | {"folder": str(folder)})
        else:
            from speechgru.cli.tables.comparison import print_comparison

            print_comparison(rows, reference, title)
    if not json:
        out.line(", ".join(str(table) for table in tables))


def _costs(
    runs: "list[PlannedRun]", data: "TrainingData", device: "torch.device"
) -> "list[RunResult]":
    """The costs of each run's network."""
    from speechgru.analysis.comparison import costs_only

    results = []
    with progress_bar("measuring") as progress:
        for done, run in enumerate(runs, 1):
            results.append(costs_only(run, data, device))
            progress(done, len(runs))
    return results


def _results(
    runs: "list[PlannedRun]", data: "TrainingData", device: "torch.device"
) -> "list[RunResult]":
    """Every run's result; that of a finished run is read from its file."""
    from speechgru.analysis.comparison import perform_run

    results = []
    try:
        with stop_on_signals() as stop:
            for number, run in enumerate(runs, 1):
                place = "done before" if run.result_file.exists() else str(run.folder)
                width = run.recipe.model.hidden
                err.line(
                    f"{number}/{len(runs)}  {run.cell}, {width} units, seed {run.seed}: {place}"
                )
                with live_run() as (report, _):
                    results.append(perform_run(run, data, device, report, stop))
    except (InterruptedRunError, KeyboardInterrupt):
        raise InterruptedRunError(
            f"interrupted in run {len(results) + 1} of {len(runs)}; run the same command again to "
            "go on"
        ) from None
    return results
