"""`speechgru bench`: the cost of training, listening and serving, a file per verb."""

import typer

from speechgru.cli.bench.cells import bench_cells
from speechgru.cli.bench.listen import bench_listen
from speechgru.cli.bench.loss import bench_loss
from speechgru.cli.bench.serve import bench_serve
from speechgru.cli.bench.train import bench_train
from speechgru.cli.help import Group, add_verbs

bench = typer.Typer(
    name="bench",
    cls=Group,
    help="Measure the cost of training, listening and serving.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
add_verbs(bench, None, bench_train, bench_listen, bench_serve, bench_loss, bench_cells)
