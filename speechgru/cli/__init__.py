"""The command line: a Typer app with a file per verb.

Nothing but the guard is imported here, so that Ctrl-C is handled while the rest loads.
"""

from speechgru.cli.guard import entry_point, main

__all__ = ["entry_point", "main"]
