"""`speechgru data`: recordings from their download to a stream, a file per verb."""

import typer

from speechgru.cli.data.check import check
from speechgru.cli.data.download import download
from speechgru.cli.data.pack import pack
from speechgru.cli.data.stats import stats
from speechgru.cli.data.stream import stream
from speechgru.cli.data.synthesize import synthesize
from speechgru.cli.help import Group, add_verbs

data = typer.Typer(
    name="data",
    cls=Group,
    help="Download, check, count, pack, mix and synthesize recordings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
add_verbs(data, None, download, check, stats, pack, stream, synthesize)
