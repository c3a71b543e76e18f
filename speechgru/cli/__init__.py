"""The command line: a Typer app, a file per verb."""

from speechgru.cli.app import app, entry_point, main

__all__ = ["app", "entry_point", "main"]
