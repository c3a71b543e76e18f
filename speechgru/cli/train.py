"""`speechgru train`: a recipe to a run directory, live."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import ProgressCallback, err, out, print_json
from speechgru.cli.train_together import (
    how_to_go_on,
    launch_training,
    left_to_the_first,
    own_device,
)
from speechgru.errors import InterruptedRunError, SpeechGRUError, UsageError

if TYPE_CHECKING:
    import torch

    from speechgru.training.distribution import Ranks
    from speechgru.training.loop import Status, TrainingResult
    from speechgru.training.recipe import Recipe


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(help="A recipe's name or TOML file. [default: speech-commands-v2-12]"),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Directory of recordings, CSV manifest, or 'embedded'.", metavar="DIR"),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option("--out", help="Run directory. [default: runs/RECIPE]", metavar="RUN"),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Override a setting: training.epochs=5.", metavar="KEY=VALUE"),
    ] = None,
    begin_with: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Begin with this model's weights: a file, or commands-12, which ships.",
            metavar="MODEL",
        ),
    ] = None,
    resume: Annotated[
        Path | None, typer.Option(help="Go on with the run in this directory.", metavar="RUN")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    devices: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            help="GPUs of this machine, or processes with --device cpu; several machines: torchrun",
        ),
    ] = 1,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Train a model by a recipe; Ctrl-C saves, --resume goes on."""
    # A contradiction must be told before torch takes its seconds to load.
    if resume is not None and (recipe or out_dir or overrides or begin_with):
        raise UsageError(
            "--resume: goes on as the run began; RECIPE, --out, --from and --set do not fit"
        )
    from speechgru.backends.torch_device import select_device
    from speechgru.training.distribution import joined
    from speechgru.training.recipe import load_recipe
    from speechgru.training.recipe_files import DEFAULT_RECIPE
    from speechgru.training.rundir import RunDirectory, free_name

    device = own_device(device, devices)
    chosen = select_device(device)
    if resume is not None:
        run, settings = resume, RunDirectory(resume).read_recipe()
    else:
        name = recipe or DEFAULT_RECIPE
        settings = load_recipe(name, [*(overrides or []), *_start(begin_with)])
        run = out_dir or free_name(Path("runs") / Path(name).stem)
    settings = with_data(settings, data)
    if devices > 1:
        raise typer.Exit(launch_training(settings, run, resume is not None, device, devices, json))
    with joined(chosen) as ranks:
        result = train_here(settings, run, chosen, resume is not None, ranks)
    if not ranks.is_first:
        return
    if json:
        print_json(as_json(result))
    else:
        print_result(result)


def train_here(
    recipe: "Recipe", run: Path, device: "torch.device", resume: bool, ranks: "Ranks"
) -> "TrainingResult":
    """Train in this process, which may be one of several: the first is seen and heard."""
    from speechgru.training.distribution import LostProcessError
    from speechgru.training.launcher import LOST_CODE, end_with_parent, is_launched
    from speechgru.training.loop import train as run_training

    if is_launched():
        end_with_parent()
    if ranks.is_first:
        where = f"{device}" if ranks.size == 1 else f"{ranks.size} x {device.type}"
        err.line(f"{run}: training on {where}; Ctrl-C saves and stops")
    say = err.line if ranks.is_first else _say_nothing
    view = live_run() if ranks.is_first else nullcontext((_say_nothing, _say_nothing))
    hear = stop_on_signals() if ranks.is_first else left_to_the_first()
    try:
        with hear as stop, view as (report, decoding):
            return run_training(recipe, run, device, resume, report, stop, decoding, say, ranks)
    except LostProcessError as error:
        if is_launched():
            raise typer.Exit(LOST_CODE) from error  # who started this one tells
        raise SpeechGRUError(f"{error}; {how_to_go_on(run)}") from error
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted without saving the last steps; if {run} holds a run, {how_to_go_on(run)}"
        ) from None


def _start(model: str | None) -> list[str]:
    """The override that begins with a model, if there is one."""
    from speechgru.modelfile.bundled import is_shipped, trained_model

    if not model:
        return []
    name = model if is_shipped(model) else trained_model(model).absolute()
    return [f"training.begin_with='{name}'"]  # a TOML literal string: backslashes stay as they are


def _say_nothing(*_: object) -> None:
    pass


def with_data(recipe: "Recipe", data: str | None) -> "Recipe":
    """The recipe with the directory that the command line names, as an absolute path."""
    from speechgru.training.recipe import parse_recipe

    directory = data or recipe.data.directory
    if directory and directory != "embedded":
        directory = str(Path(directory).expanduser().absolute())
    table = recipe.model_dump(mode="json")
    table["data"]["directory"] = directory
    return parse_recipe(table, "recipe")


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Turn the first SIGINT or SIGTERM into a wish to stop; a second SIGINT interrupts at once."""
    caught: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if caught and number == signal.SIGINT:
            raise KeyboardInterrupt
        caught.append(number)
        err.print("saving ...")

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(caught)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def live_run() -> Iterator[tuple[Callable[["Status"], None], ProgressCallback]]:
    """Show a run on stderr: gives what hears of its status, and what hears of the decoding.

    A live line on a terminal; elsewhere a plain line at each validation.
    """
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    if not err.is_terminal:
        yield _plain_lines(), lambda done, total: None
        return
    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=14),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}"),
        TimeRemainingColumn(compact=True),
    )
    with Progress(*columns, console=err.console) as bar:
        task = bar.add_task("train", total=None, figures="")

        def decoding(done: int, total: int) -> None:
            bar.update(
                task, description="decode", total=total, completed=done, figures=f"{done}/{total}"
            )

        def report(status: "Status") -> None:
            bar.update(
                task,
                description="train",
                total=status.steps,
                completed=status.step,
                figures=_figures(status),
            )

        yield report, decoding


def _plain_lines() -> Callable[["Status"], None]:
    shown: set[object] = set()

    def report(status: "Status") -> None:
        if status.score is not None and status.score not in shown:
            shown.add(status.score)
            err.line(
                f"step {status.step}/{status.steps}  {_figures(status)}  "
                f"{status.seconds_left:.0f} s left"
            )

    return report


def _figures(status: "Status") -> str:
    parts = [f"loss {status.loss:.3f}"]
    if status.score is not None:
        parts.append(f"validation {100 * status.score.balanced_accuracy:.2f} %")
    parts.append(f"{status.clips_per_second:.0f} clips/s")
    return "  ".join(parts)


def as_json(result: "TrainingResult") -> dict[str, object]:
    """A run's result as `--json` prints it."""
    return {
        "run": str(result.run),
        "model": str(result.model),
        "steps": result.steps,
        "seconds": round(result.seconds, 1),
        "stopped_early": result.early,
        "metrics": result.metrics,
    }


def print_result(result: "TrainingResult") -> None:
    """A finished run, and what to do with it."""
    score = result.metrics["validation"]
    why = ", ended early: no better validation" if result.early else ""
    out.line(
        f"{result.model}: best at step {result.metrics['step']} of {result.steps}{why}; "
        f"validation {100 * score['balanced_accuracy']:.2f} % balanced over the labels, "
        f"{100 * score['accuracy']:.2f} % of N={score['n']}; {result.seconds:.0f} s"
    )
    if sys.stdout.isatty():
        out.line(f"next: speechgru evaluate {result.model} --data DIR")
