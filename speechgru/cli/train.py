"""`speechgru train`: trains a model from a recipe into a run directory."""

from contextlib import nullcontext
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_model
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_recipe, start_from, with_data
from speechgru.cli.interrupts import ignored_signals, stop_on_signals
from speechgru.cli.tables.training import as_json, print_result
from speechgru.cli.terminal import err, print_json
from speechgru.cli.train_processes import how_to_resume, launch_training, own_device
from speechgru.cli.views.training import live_run
from speechgru.errors import InterruptedRunError, MissingWordsError, SpeechGRUError, UsageError

if TYPE_CHECKING:
    import torch

    from speechgru.training.distribution import Ranks
    from speechgru.training.loop import TrainingResult
    from speechgru.training.recipe import Recipe

RUN, MACHINE = "Run", "Machine"


@examples(
    "speechgru train my-words --data my-words/ --out runs/mine",
    "speechgru train speech-commands-v2-35 --data speech_commands/",
    "speechgru train my-words --data my-words/ --set training.epochs=5",
    "speechgru train --resume runs/mine",
)
def train(
    recipe: options.OptionalRecipe = None,
    data: options.Data = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="New run directory. [default: runs/RECIPE]",
            metavar="RUN",
            rich_help_panel=RUN,
        ),
    ] = None,
    overrides: options.Overrides = None,
    begin_with: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Start from the weights of a model: a file, a run directory, or a bundled model.",
            metavar="MODEL",
            autocompletion=complete_model,
            rich_help_panel=RUN,
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Resume the run in this directory.", metavar="RUN", rich_help_panel=RUN),
    ] = None,
    device: options.Device = "auto",
    devices: Annotated[
        int,
        typer.Option(
            min=1,
            max=64,
            metavar="N",
            help="GPUs of this machine, or processes with --device cpu. For several machines "
            "use torchrun.",
            rich_help_panel=MACHINE,
        ),
    ] = 1,
    json: options.Json = False,
) -> None:
    """Train a model from a recipe.

    The first Ctrl-C saves the run and stops; --resume continues it with the same result.
    """
    # Contradictions are reported before torch, which takes seconds, is loaded.
    if resume is not None and (recipe or out_dir or overrides or begin_with):
        raise UsageError(
            "--resume continues the run as it was started; leave out RECIPE, --out, --from and "
            "--set"
        )
    from speechgru.backends.torch_device import select_device
    from speechgru.training.distribution import process_group
    from speechgru.training.recipe_files import DEFAULT_RECIPE
    from speechgru.training.run_directory import RunDirectory, free_name

    device = own_device(device, devices)
    chosen = select_device(device)
    if resume is not None:
        run, settings = resume, with_data(RunDirectory(resume).read_recipe(), data)
    else:
        name = recipe or DEFAULT_RECIPE
        settings = open_recipe(name, [*(overrides or []), *start_from(begin_with)], data)
        if begin_with is not None:
            settings = _refined(settings)
        run = out_dir or free_name(Path("runs") / Path(name).stem)
    if devices > 1:
        raise typer.Exit(launch_training(settings, run, resume is not None, device, devices, json))
    with process_group(chosen) as ranks:
        try:
            result = _train_here(settings, run, chosen, resume is not None, ranks)
        except MissingWordsError as error:
            if recipe is not None or resume is not None:
                raise
            raise MissingWordsError(
                f"{error}; for words of your own: "
                f"speechgru train my-words --data {quote(str(data))}"
            ) from error
    if not ranks.is_first:
        return
    if json:
        print_json(as_json(result))
    else:
        print_result(result, settings.data.directory)


def _refined(recipe: "Recipe") -> "Recipe":
    """Shorter, if the model to begin with has the same words; says so."""
    from speechgru.training.refinement import refined

    settings = refined(recipe)
    if settings.training.keep_start and not recipe.training.keep_start:
        err.line(
            f"the same words: {settings.training.refine_steps} steps, and the weights of "
            f"{settings.training.begin_with} stay unless better ones are found "
            "(--set training.refine_steps=0 trains in full)"
        )
    return settings


def _train_here(
    recipe: "Recipe", run: Path, device: "torch.device", resume: bool, ranks: "Ranks"
) -> "TrainingResult":
    """Train in this process; of several, only the first shows the run and can stop it."""
    from speechgru.common.parents import end_with_parent, is_child
    from speechgru.training.distribution import LostProcessError
    from speechgru.training.launcher import LOST_CODE, follow_launcher, is_launched
    from speechgru.training.loop import train as run_training

    say = err.line if ranks.is_first else _say_nothing
    view = live_run() if ranks.is_first else nullcontext((_say_nothing, _say_nothing))
    signals = stop_on_signals() if ranks.is_first else ignored_signals()
    try:
        with signals as stop, view as (report, decoding):
            if is_launched():
                follow_launcher()
            elif is_child():
                end_with_parent()
            return run_training(recipe, run, device, resume, report, stop, decoding, say, ranks)
    except LostProcessError as error:
        if is_launched():
            raise typer.Exit(LOST_CODE) from error  # reported by the process that started this one
        raise SpeechGRUError(f"{error}; {how_to_resume(run)}") from error
    except KeyboardInterrupt:
        raise InterruptedRunError(
            f"interrupted; the last steps were not saved. If {run} holds a run, "
            f"{how_to_resume(run)}"
        ) from None


def _say_nothing(*_: object) -> None:
    """The output of a process that is not the first."""
