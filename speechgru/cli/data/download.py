"""`speechgru data download`: downloads and unpacks a public corpus."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import transfer_bar
from speechgru.cli.terminal import err, out, print_json


@examples(
    "speechgru data download speech-commands-v2",
    "speechgru data download speech-commands-v2-test --out test-set/",
)
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
        typer.Option("--out", metavar="DIR", help="New directory. [default: ./NAME]"),
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="Mirror of the archive, http or https.")
    ] = None,
    sha256: Annotated[
        str | None,
        typer.Option(metavar="HEX", help="SHA-256 of the mirror's archive, if it differs."),
    ] = None,
    keep_archive: Annotated[
        bool, typer.Option("--keep-archive", help="Keep the tar.gz beside the directory.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Download a public corpus.

    An interrupted download is resumed, the SHA-256 is checked, and the archive is unpacked
    completely or not at all.
    """
    from speechgru.corpora.download import Download

    job = Download(name, target, url, sha256)
    receipt = job.finished()
    if receipt is not None:
        err.line(f"{job.target}: {name} is already there, complete")
    else:
        space = job.space_needed()
        err.line(
            f"{name} from {job.url} to {job.target}: {decimal(space.download)} to download, "
            f"about {decimal(space.unpacked)} unpacked; {decimal(space.free)} free"
        )
        receipt = job.run(keep_archive, transfer_bar)
    if json:
        print_json({"directory": str(job.target), **asdict(receipt)})
        return
    out.line(f"{job.target}: {receipt.files:,} recordings, {decimal(receipt.bytes)}")
