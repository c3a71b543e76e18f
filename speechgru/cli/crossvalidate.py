"""`speechgru crossvalidate`: how well a model of a small corpus will work."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_recipe
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_recipe
from speechgru.cli.interrupts import stop_on_signals
from speechgru.cli.terminal import err, print_json
from speechgru.cli.views.training import live_run
from speechgru.errors import InterruptedRunError

RECIPE = "my-words"


@examples(
    "speechgru crossvalidate --data my-words/",
    "speechgru crossvalidate my-words --data my-words/ --folds 3",
    "speechgru crossvalidate digits-ctc --data fsdd/ --folds 6 --also gsc-open/",
)
def crossvalidate(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE",
            help="Name of a recipe (see `speechgru recipes`) or a TOML file.",
            autocompletion=complete_recipe,
        ),
    ] = RECIPE,
    data: options.Data = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            max=1000,
            metavar="K",
            help="Number of folds: each run leaves out some speakers (takes, with one speaker). "
            "[default: 5, or the number of speakers or takes if there are fewer]",
        ),
    ] = None,
    also: Annotated[
        str | None,
        typer.Option(
            metavar="DIR", help="More recordings of the same words, used for training only."
        ),
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="Directory for the runs and results of the folds. [default: runs/RECIPE-folds]",
        ),
    ] = None,
    overrides: options.Overrides = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Cross-validate a small corpus: train once per fold, and test on what was left out.

    Reports the accuracy, missed words and false alarms to expect with new speakers (of a single
    speaker's recordings, with that speaker), and which further recordings would help most. After
    Ctrl-C, run the same command again to continue.
    """
    from speechgru.backends.torch_device import select_device
    from speechgru.training.crossvalidation import CrossValidation, Watch

    chosen = select_device(device)
    settings = open_recipe(recipe, overrides or [], data)
    out = out_dir or Path("runs") / f"{Path(recipe).stem}-folds"
    validation = CrossValidation(settings, out, folds, also, may_rename=out_dir is None)
    count, by = validation.folds.count, validation.folds.by
    err.line(f"{validation.out}: {count} folds by {by} on {chosen}; Ctrl-C saves and stops")
    try:
        with stop_on_signals() as stop, live_run() as (report, decoding):
            result = validation.run(chosen, Watch(err.line, report, decoding, stop))
    except KeyboardInterrupt:
        raise InterruptedRunError(
            "interrupted; finished folds are kept: run the same command again to go on"
        ) from None
    if json:
        print_json({"out": str(validation.out), **result.as_dict()})
        return
    from speechgru.cli.tables.folds import print_folds

    print_folds(result)
