"""`speechgru data pack`: recordings decoded into the cache, once for all runs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.common.wording import counted


@examples("speechgru data pack my-words/")
def pack(
    directory: options.Directory,
    cache: Annotated[
        Path | None,
        typer.Option(
            "--cache",
            metavar="DIR",
            help="Where to write. [default: $SPEECHGRU_CACHE or ~/.cache/speechgru]",
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Decode and resample recordings into the cache.

    `train` does so by itself on its first run.
    """
    from speechgru.corpora import open_corpus
    from speechgru.corpora.cache import default_cache_dir
    from speechgru.corpora.packed import pack as pack_corpus

    corpus = open_corpus(directory)
    with progress_bar("decoding") as progress:
        packed = pack_corpus(corpus, cache_dir=cache, progress=progress)
    hours = len(packed.buffer) / packed.rate / 3600
    if json:
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
    size = decimal(packed.buffer.nbytes)
    out.line(
        f"{directory}: {counted(len(packed.paths), 'recording')}, {hours:.2f} hours, {size} in "
        f"{cache or default_cache_dir()}"
    )
