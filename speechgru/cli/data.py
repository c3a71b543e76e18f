"""`speechgru data`: get recordings, look for what is wrong with them, count them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from speechgru.cli.data_stream import stream
from speechgru.cli.terminal import ProgressCallback, err, out, print_json, progress_bar
from speechgru.errors import DataError

data = typer.Typer(
    help="Download, check, count and pack recordings.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
data.command()(stream)

Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A directory of recordings, or a CSV manifest of them."),
]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@data.command()
def download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="speech-commands-v1, speech-commands-v2 or speech-commands-v2-test.",
        ),
    ],
    target: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="The new directory; default: ./NAME."),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A mirror of the archive, http or https.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="SHA-256 of the mirror's archive, if it packed its own."),
    ] = None,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep the tar.gz beside the directory.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Download a public corpus.

    It resumes, checks the SHA-256, and unpacks the archive whole or not at all.
    """
    from speechgru.corpora.download import Download

    job = Download(name, target, url, sha256)
    receipt = job.finished()
    if receipt is not None:
        err.line(f"{job.target}: {name} is there already, complete")
    else:
        needs = job.needs()
        plan = (
            f"{name} from {job.url} to {job.target}: {decimal(needs.download)} to download, "
            f"about {decimal(needs.unpacked)} unpacked; {decimal(needs.free)} free"
        )
        err.line(plan)
        receipt = job.run(keep_archive, _transfer_bar)
    if as_json:
        print_json({"directory": str(job.target), **asdict(receipt)})
        return
    told = f"{job.target}: {receipt.files:,} recordings, {decimal(receipt.bytes)}"
    out.line(told)


@data.command()
def check(
    directory: Directory,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 4 for warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Tell what is wrong with recordings.

    Bad files, copies under two words or in two splits, shared speakers, empty splits: errors give
    exit code 4. Silent, clipped or odd clips, and words with few clips, are warnings.
    """
    from speechgru.corpora import open_corpus
    from speechgru.corpora.check import check as check_corpus

    corpus = open_corpus(directory)
    with progress_bar("checking") as progress:
        report = check_corpus(corpus, progress)
    if as_json:
        print_json(report.as_dict())
    else:
        from speechgru.cli.tables.corpus import print_report

        print_report(report)
    if report.errors or (strict and report.warnings):
        warnings = f" and {report.warnings:,} warnings" if strict else ""
        raise DataError(f"{directory}: {report.errors:,} errors{warnings}; a sound corpus has none")


@data.command()
def stats(directory: Directory, as_json: AsJson = False) -> None:
    """Count clips, speakers and hours by word and split."""
    from speechgru.corpora import open_corpus
    from speechgru.corpora.stats import stats as corpus_stats

    corpus = open_corpus(directory)
    with progress_bar("reading headers") as progress:
        counted = corpus_stats(corpus, progress)
    if as_json:
        print_json(counted.as_dict())
    else:
        from speechgru.cli.tables.corpus import print_stats

        print_stats(counted)


@data.command()
def pack(
    directory: Directory,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache", metavar="DIR", help="Default: $SPEECHGRU_CACHE or ~/.cache/speechgru."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Decode and resample all once.

    That is what `train` does on its first run.
    """
    from speechgru.corpora import open_corpus
    from speechgru.corpora.cache import default_cache_dir
    from speechgru.corpora.packed import pack as pack_corpus

    corpus = open_corpus(directory)
    with progress_bar("decoding") as progress:
        packed = pack_corpus(corpus, cache_dir=cache, progress=progress)
    hours = len(packed.buffer) / packed.rate / 3600
    if as_json:
        print_json(
            {
                "recordings": len(packed.paths),
                "hours": hours,
                "bytes": packed.buffer.nbytes,
                "rate": packed.rate,
                "fingerprint": packed.fingerprint,
            }
        )
        return
    told = f"{len(packed.paths):,} recordings, {hours:.2f} hours, {decimal(packed.buffer.nbytes)}"
    out.line(f"{directory}: {told} in {cache or default_cache_dir()}")


@contextmanager
def _transfer_bar(description: str) -> Iterator[ProgressCallback]:
    """A bar on stderr that counts bytes; a total of 0 is one that nobody knows."""
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(compact=True),
    )
    with Progress(
        *columns, console=err.console, transient=True, disable=not err.is_terminal
    ) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
