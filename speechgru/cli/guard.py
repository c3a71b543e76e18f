"""Runs the command line so that every failure becomes a sentence and an exit code.

Everything else is imported inside `main`, because Ctrl-C may arrive while torch, numpy or typing
load.
"""

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

DEBUG = "--debug"


def main(arguments: "Sequence[str] | None" = None) -> int:
    """Run the command line and give its exit code; no traceback unless --debug asks for it."""
    # Threads that spin while they wait take the cores from whatever else runs, and are then ten
    # times slower than threads that sleep. OpenMP reads this when torch is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _prepare_streams()
    typed = list(sys.argv[1:] if arguments is None else arguments)
    debug = DEBUG in typed
    typed = [argument for argument in typed if argument != DEBUG]
    try:
        from speechgru.cli.interrupts import noted_interrupts
        from speechgru.cli.outcome import exit_code_of, run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        return 130
    with noted_interrupts() as interrupted:
        try:
            return run(typed)
        except BaseException as error:
            return exit_code_of(error, interrupted(), debug)


def _prepare_streams() -> None:
    """Let standard streams that are closed lead nowhere, and the others wait.

    Otherwise the next files that are opened take their numbers, and get what libraries write there.
    stdin stays None in Python, so that a command that needs it can say so.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        # A parent may hand over pipes that it does not wait for: a pause would be the end of stdin,
        # and lines for a slow reader would be lost. Those of Windows always wait.
        if sys.platform != "win32" and hasattr(os, "set_blocking"):
            os.set_blocking(number, True)
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: PTH123, SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: PTH123, SIM115


def _set_stderr_apart() -> None:
    """Write our messages to a copy of stderr, so that those of libraries in C can be discarded.

    These say of a damaged recording what our sentence says, in several lines of their own.
    """
    if sys.platform == "win32" or sys.stderr is None:  # Python writes to a console in another way
        return
    try:
        copy = open(os.dup(sys.stderr.fileno()), "wb", buffering=0)  # noqa: PTH123, SIM115
    except (OSError, ValueError):
        return
    sys.stderr = io.TextIOWrapper(
        copy, sys.stderr.encoding, sys.stderr.errors, line_buffering=True, write_through=True
    )


def entry_point() -> "NoReturn":
    """Entry point of the `speechgru` script."""
    _prepare_streams()  # or the copy of stderr takes the number of another one
    _set_stderr_apart()
    sys.exit(main())
