"""`speechgru compare`: cells against each other under the same conditions."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli.terminal import err, out, print_json, progress_bar
from speechgru.cli.train import live_run, stop_on_signals, with_data
from speechgru.errors import InterruptedRunError, UsageError

if TYPE_CHECKING:
    import torch

    from speechgru.analysis.comparison import PlannedRun
    from speechgru.analysis.comparison_report import Row, RunResult
    from speechgru.training.prepared_data import PreparedData


def compare(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="A recipe's name or TOML file.")
    ] = "cells",
    cells: Annotated[
        str,
        typer.Option(
            metavar="A,B,...",
            help="Which cells; all is every one; stack+gru is a gru without convolutions.",
        ),
    ] = "rnn,lstm,gru,gru-cho,mgu,ligru,mingru,ssm,transformer",
    match: Annotated[
        str, typer.Option(help="What they have alike: parameters (to 3 %) or width.")
    ] = "parameters",
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each cell.")] = 1,
    data: Annotated[
        str | None,
        typer.Option(help="Directory of recordings, CSV manifest, or 'embedded'.", metavar="DIR"),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="For runs and tables. [default: runs/RECIPE]"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: training.epochs=5.", metavar="KEY=VALUE"),
    ] = None,
    costs_only: Annotated[
        bool, typer.Option("--costs-only", help="Train nothing: parameters, time and memory.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train several cells alike; Ctrl-C saves, the same command goes on."""
    from speechgru.analysis.comparison import MATCHES, parse_cells, plan_runs
    from speechgru.analysis.comparison_report import as_csv, as_markdown, make_rows
    from speechgru.backends.torch_device import select_device
    from speechgru.common.files import write_atomic
    from speechgru.training.prepared_data import prepare
    from speechgru.training.recipe import load_recipe

    if match not in MATCHES:
        raise UsageError(f"--match {match!r}: one of {', '.join(MATCHES)} is needed")
    names, chosen = parse_cells(cells), select_device(device)
    settings = with_data(load_recipe(recipe, overrides or []), data)
    folder = out_dir or Path("runs") / Path(recipe).stem
    with progress_bar("decoding") as progress:
        of_all = prepare(settings, progress)
    runs = plan_runs(settings, of_all, names, match, seeds, folder)  # type: ignore[arg-type]
    results = _results(runs, of_all, chosen, costs_only)
    reference = settings.model.cell if settings.model.cell in names else names[0]
    rows = make_rows(results, reference)
    name = "costs" if costs_only else "compare"
    markdown, table = folder / f"{name}.md", folder / f"{name}.csv"
    write_atomic(markdown, as_markdown(rows, reference))
    write_atomic(table, as_csv(rows))
    title = f"{of_all.task.protocol} of {of_all.corpus.root.name}: the same {match}"
    if not costs_only:
        from speechgru.analysis.comparison_report import save_comparison_picture

        save_comparison_picture(rows, title, folder / "compare.png")
    if json:
        found: dict[str, Any] = {"protocol": of_all.task.protocol, "match": match}
        found |= {"reference": reference, "rows": [row.as_dict() for row in rows]}
        print_json(found | {"folder": str(folder)})
        return
    _print(rows, reference, title)
    out.line(f"{markdown}, {table}")


def _results(
    runs: "list[PlannedRun]", data: "PreparedData", device: "torch.device", costs_only: bool
) -> "list[RunResult]":
    """Every run's result; those that are there already are not made again."""
    from speechgru.analysis.comparison import costs_only as costs_of_run
    from speechgru.analysis.comparison import perform_run

    results = []
    if costs_only:
        with progress_bar("measuring") as progress:
            for done, run in enumerate(runs, 1):
                results.append(costs_of_run(run, data, device))
                if progress is not None:
                    progress(done, len(runs))
        return results
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
            f"stopped in run {len(results) + 1} of {len(runs)}; the same command goes on"
        ) from None
    return results


def _print(rows: "list[Row]", reference: str, title: str) -> None:
    from rich.table import Table

    from speechgru.analysis.comparison_report import tables

    out.line(title)
    for name, columns in tables(rows, reference).items():
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        for number, column in enumerate(columns):
            table.add_column(column.heading, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*(column.value(row) for column in columns))
        out.line(f"\n{name}")
        out.print(table)
