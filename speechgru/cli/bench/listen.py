"""`speechgru bench listen`: what listening with a model costs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.bench.load import note_load
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.modelfile.bundled import bundled_model, find_model

if TYPE_CHECKING:
    from speechgru.analysis.listening_cost import ListeningCost


@examples(
    "speechgru bench listen",
    "speechgru bench listen mine.onnx --minutes 60",
    "speechgru bench listen mine.onnx --start recording.wav",
)
def bench_listen(
    model: options.OptionalModel = None,
    minutes: Annotated[
        int,
        typer.Option(
            min=3, max=60 * 24, metavar="M", help="Minutes of audio; 60 shows growth over an hour."
        ),
    ] = 3,
    threads: Annotated[
        int, typer.Option(min=1, max=64, metavar="N", help="Cores for the network.")
    ] = 1,
    start: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure only the time from starting `listen --input FILE` to its first event.",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Real-time factor, time per chunk and memory of listening."""
    path = find_model(model) if model is not None else bundled_model()
    from speechgru.analysis.listening_cost import measure_listening
    from speechgru.backends.loader import open_backend
    from speechgru.modelfile.onnx import is_onnx

    note_load(os.cpu_count() or 1)
    if start is not None:
        _bench_start(path, start, json)
        return
    with nullcontext() if is_onnx(path) else _torch_threads(threads):
        opened = partial(open_backend, path, threads=threads)
        with progress_bar("listening, in minutes") as progress:
            cost = measure_listening(opened, minutes, progress=progress)
    if json:
        print_json(cost.as_dict())
        return
    library = "onnxruntime" if is_onnx(path) else "PyTorch"
    out.line(f"{minutes} minutes in 20 ms chunks, {threads} thread(s), with {library}")
    _print(cost)


def _print(cost: "ListeningCost") -> None:
    chunk = cost.chunk_us
    out.styled(
        f"real-time factor    [bold]{cost.real_time_factor:.4f}[/] "
        f"(processor time {cost.cpu_real_time_factor:.4f})"
    )
    out.line(
        f"a chunk             p50 {chunk['p50']:.0f} us, p95 {chunk['p95']:.0f} us, "
        f"p99 {chunk['p99']:.0f} us"
    )
    out.line(
        f"over the bare call  {cost.overhead_ratio:.3f} times (bare: p50 {cost.bare_us:.0f} us)"
    )
    out.line(f"a whole minute      {cost.whole_speed:.0f} times faster than real time")
    out.line(
        f"last / second min   {cost.last_over_second:.3f}, "
        f"over a fresh start {cost.last_over_fresh:.3f} (same minute)"
    )
    out.line(
        f"memory              peak {cost.peak_mb:.0f} MB, "
        f"growth {cost.growth_mb_per_hour:.2f} MB per hour"
    )


def _bench_start(model: Path, recording: Path, json: bool) -> None:
    from speechgru.analysis.listening_cost import measure_startup
    from speechgru.audio.files import probe
    from speechgru.backends.loader import open_backend

    open_backend(model).check_streams()  # before a process of its own fails to
    probe(recording)
    with progress_bar("starting, in pairs") as progress:
        cost = measure_startup(model, recording, progress=progress)
    if json:
        print_json(cost.as_dict())
        return
    out.styled(
        f"to the first event  [bold]{cost.first_event_s:.2f} s[/], {cost.over_bare:.2f} times "
        "`import onnxruntime, numpy, typer, rich`"
    )
    out.line(f"memory              peak {cost.peak_mb:.0f} MB ({cost.pairs} pairs of starts)")


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    """Let torch use this many cores while entered."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
