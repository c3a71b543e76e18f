"""The Typer app: the verbs by panel, and the options of `speechgru` itself."""

from functools import cache
from typing import Annotated, Any

import typer
from typer.main import get_command

from speechgru.cli.bench import bench
from speechgru.cli.calibrate import calibrate
from speechgru.cli.compare import compare
from speechgru.cli.crossvalidate import crossvalidate
from speechgru.cli.data import data
from speechgru.cli.demo import demo
from speechgru.cli.devices import devices
from speechgru.cli.evaluate import evaluate
from speechgru.cli.export import export
from speechgru.cli.help import Group, add_verbs
from speechgru.cli.info import info
from speechgru.cli.inspect import inspect
from speechgru.cli.listen import listen
from speechgru.cli.recipes import recipes
from speechgru.cli.recognize import recognize
from speechgru.cli.record import record
from speechgru.cli.review import review
from speechgru.cli.serve import serve
from speechgru.cli.train import train
from speechgru.cli.verify import verify
from speechgru.version import __version__

TRAIN, LISTEN, DATA, TOOLS = "Train", "Listen", "Data", "Tools"

app = typer.Typer(
    name="speechgru",
    cls=Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="speechgru demo\n"
    "speechgru train my-words --data my-words/ --out runs/mine\n"
    "speechgru listen runs/mine",
)
add_verbs(app, TRAIN, demo, train, recipes, evaluate, crossvalidate, compare)
add_verbs(app, LISTEN, listen, serve, recognize, calibrate, devices)
add_verbs(app, DATA, record, review)
app.add_typer(data, name="data", rich_help_panel=DATA)
add_verbs(app, TOOLS, info, export, verify, inspect)
app.add_typer(bench, name="bench", rich_help_panel=TOOLS)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"speechgru {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", is_eager=True, callback=_print_version
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show the traceback of an error; allowed anywhere."),
    ] = False,
) -> None:
    """Spoken command recognition: train on your own words, listen live."""


@cache
def command_line() -> Any:
    """All commands as one that parses and runs; put together once a process."""
    return get_command(app)
