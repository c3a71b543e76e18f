"""The Typer app: each verb from its own file; errors become one sentence and an exit code."""

import os
import sys
from collections.abc import Sequence
from typing import Annotated, NoReturn

import typer

from speechgru.cli.bench import bench
from speechgru.cli.calibrate import calibrate
from speechgru.cli.compare import compare
from speechgru.cli.data import data
from speechgru.cli.demo import demo
from speechgru.cli.devices import devices
from speechgru.cli.evaluate import evaluate
from speechgru.cli.export import export
from speechgru.cli.info import info
from speechgru.cli.inspect import inspect
from speechgru.cli.listen import listen
from speechgru.cli.recognize import recognize
from speechgru.cli.record import record
from speechgru.cli.terminal import tell_error
from speechgru.cli.train import train
from speechgru.cli.verify import verify
from speechgru.errors import SpeechGRUError
from speechgru.version import __version__

app = typer.Typer(
    name="speechgru",
    help="Spoken command recognition: train on your own words, listen live.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command()(demo)
app.command()(record)
app.command()(train)
app.command()(evaluate)
app.command()(recognize)
app.command()(listen)
app.command()(calibrate)
app.command()(devices)
app.command()(info)
app.command()(inspect)
app.command()(compare)
app.command()(verify)
app.command()(export)
app.add_typer(data, name="data")
app.add_typer(bench, name="bench")


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
) -> None:
    """Spoken command recognition: train on your own words, listen live."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and give its exit code; no traceback reaches the user."""
    # Threads that spin while they wait take the cores from each other where anything else runs: ten
    # times slower than threads that sleep. OpenMP reads this when torch is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        app(args=list(arguments) if arguments is not None else None)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except SpeechGRUError as error:
        tell_error(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "speechgru"):
            raise
        tell_error(
            f"this needs the package {package}, which is not installed; a whole installation of "
            "speechgru has it"
        )
        return 1
    except KeyboardInterrupt:
        tell_error("interrupted")
        return 130
    except BrokenPipeError:
        # Whoever read our stdout has gone; the interpreter must not try to flush it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        tell_error(f"{name}{error.strerror or error}")
        return 1
    return 0


def entry_point() -> NoReturn:
    """What the `speechgru` script calls."""
    sys.exit(main())
