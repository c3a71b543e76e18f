"""`speechgru bench listen`: what listening with a model costs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli.terminal import BUNDLED, err, out, print_json, progress_bar
from speechgru.modelfile.bundled import bundled_model


def bench_listen(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help=f"A trained model's file. {BUNDLED}")
    ] = None,
    minutes: Annotated[
        int, typer.Option(min=3, max=60 * 24, help="Of audio; 60 for what an hour changes.")
    ] = 3,
    threads: Annotated[int, typer.Option(min=1, max=64, help="Cores for the network.")] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Only how soon `listen --input FILE` has its first event."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Push 20 ms chunks as fast as it goes: real-time factor, time for a chunk, memory."""
    model = model or bundled_model()
    from speechgru.analysis.listening_cost import measure_listening
    from speechgru.backends.loader import is_onnx, open_backend

    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load > cores / 2:
        err.line(f"load average {load:.1f} on {cores} cores: other programs slow this down")
    if start is not None:
        _bench_start(model, start, json)
        return
    with nullcontext() if is_onnx(model) else torch_threads(threads):
        opened = partial(open_backend, model, threads=threads)
        with progress_bar("listening, in minutes") as progress:
            cost = measure_listening(opened, minutes, progress=progress)
    if json:
        print_json(cost.as_dict())
        return
    chunk = cost.chunk_us
    library = "onnxruntime" if is_onnx(model) else "PyTorch"
    out.print(f"{minutes} minutes in 20 ms chunks, {threads} thread(s), through {library}")
    out.print(
        f"real-time factor    [bold]{cost.real_time_factor:.4f}[/] "
        f"(of the processor {cost.cpu_real_time_factor:.4f})"
    )
    out.print(
        f"a chunk             p50 {chunk['p50']:.0f} us, p95 {chunk['p95']:.0f} us, "
        f"p99 {chunk['p99']:.0f} us"
    )
    out.print(
        f"over the bare call  {cost.overhead_ratio:.3f} times (bare: p50 {cost.bare_us:.0f} us)"
    )
    out.print(f"a whole minute      {cost.whole_speed:.0f} times faster than it was spoken")
    out.print(
        f"last / second min   {cost.last_over_second:.3f}, "
        f"over a fresh start {cost.last_over_fresh:.3f} (same minute)"
    )
    out.print(
        f"memory              peak {cost.peak_mb:.0f} MB, "
        f"growth {cost.growth_mb_per_hour:.2f} MB an hour"
    )


def _bench_start(model: Path, recording: Path, json: bool) -> None:
    from speechgru.analysis.listening_cost import measure_startup

    with progress_bar("starting, in pairs") as progress:
        cost = measure_startup(model, recording, progress=progress)
    if json:
        print_json(cost.as_dict())
        return
    out.print(
        f"to its first event  [bold]{cost.first_event_s:.2f} s[/], {cost.over_bare:.2f} times "
        "`import onnxruntime, numpy, typer, rich`"
    )
    out.print(f"memory              peak {cost.peak_mb:.0f} MB ({cost.pairs} pairs of starts)")


@contextmanager
def torch_threads(threads: int) -> Iterator[None]:
    """Let torch use so many cores, and as many as before afterwards."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
