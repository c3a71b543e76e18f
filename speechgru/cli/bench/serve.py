"""`speechgru bench serve`: how many live streams a server can handle."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.bench.load import note_load
from speechgru.cli.help import examples
from speechgru.cli.interrupts import Interrupts
from speechgru.cli.tables.layout import bare_table
from speechgru.cli.terminal import err, out, print_json
from speechgru.errors import UsageError
from speechgru.modelfile.bundled import bundled_model, find_model

#: A server answers after whole steps.
_STEP_MS = 20

if TYPE_CHECKING:
    from collections.abc import Sequence

    from speechgru.serve.capacity import Load


@examples(
    "speechgru bench serve",
    "speechgru bench serve mine.onnx --streams 300 --cores 2 --chunk-ms 100",
)
def bench_serve(
    model: options.OptionalModel = None,
    streams: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=10_000,
            metavar="N",
            help="Measure this many streams. [default: search for the most that are in time]",
        ),
    ] = None,
    limit_ms: Annotated[
        float, typer.Option(min=1, metavar="MS", help="99 % of answers must come within this.")
    ] = 60.0,
    chunk_ms: Annotated[
        float,
        typer.Option(min=20, max=1000, metavar="MS", help="Milliseconds of sound in a message."),
    ] = 20.0,
    cores: Annotated[
        int,
        typer.Option(
            min=1, max=64, metavar="N", help="Processor cores of the server, and its processes."
        ),
    ] = 1,
    seconds: Annotated[
        float, typer.Option(min=1, max=3600, metavar="S", help="Length of each measurement.")
    ] = 8.0,
    json: options.Json = False,
) -> None:
    """Live WebSocket streams that a server answers in time."""
    if chunk_ms % _STEP_MS:
        raise UsageError(f"--chunk-ms {chunk_ms:g}: a multiple of {_STEP_MS} is needed")
    path = find_model(model) if model is not None else bundled_model()
    from speechgru.backends.loader import open_backend
    from speechgru.serve.capacity import best, measure_load, search

    open_backend(path).check_streams()  # before a server fails to
    note_load(os.cpu_count() or 1)

    def measure(count: int) -> "Load":
        if err.is_terminal:
            err.line(f"{count} streams ...")
        return measure_load(path, count, seconds, chunk_ms, cores)

    with Interrupts():  # SIGTERM, too, ends its server
        loads = search(measure, limit_ms) if streams is None else [measure(streams)]
    found = best(loads, limit_ms)
    if json:
        print_json(
            {
                "limit_ms": limit_ms,
                "cores": cores,
                "streams": found.streams if found else 0,
                "loads": [load.as_dict() for load in loads],
            }
        )
        return
    _print(loads, chunk_ms)
    most = f"{found.streams} streams" if found else "no load"
    out.styled(f"[bold]{most}[/] on {cores} core(s) with p99 under {limit_ms:g} ms")


def _print(loads: "Sequence[Load]", chunk_ms: float) -> None:
    out.line(f"live streams over WebSocket, {chunk_ms:g} ms a message")
    quantiles = ("p50", "p95", "p99")
    headings = [*(f"{name} ms" for name in quantiles), "cores", "cores\neach", "kB\neach", "closed"]
    table = bare_table("streams", *headings, gap=2)
    for load in sorted(loads, key=lambda load: load.streams):
        answer = load.answer_ms
        table.add_row(
            str(load.streams),
            *(f"{answer[name]:.1f}" for name in quantiles),
            f"{load.cpu:.2f}",
            f"{load.cpu_per_stream:.4f}",
            f"{load.kb_per_stream:.0f}",
            str(load.closed),
        )
    out.show(table)
