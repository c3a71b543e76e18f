"""`speechgru data synthesize`: takes of words and of similar words by a speech engine."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import err, out, print_json


@examples(
    "speechgru data synthesize lumos nox --takes 100 --similar --out my-words",
    "speechgru data synthesize lumos --out my-words --engine piper --voices voices/",
)
def synthesize(
    words: Annotated[
        list[str], typer.Argument(metavar="WORD...", help="Words or phrases to synthesize.")
    ],
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Directory of the word folders.")
    ],
    takes: Annotated[
        int, typer.Option(min=1, max=10_000, metavar="N", help="Takes of each word.")
    ] = 100,
    engine: Annotated[
        str | None,
        typer.Option(
            metavar="ENGINE",
            help="Speech engine, one that is installed: espeak-ng, piper or kokoro. "
            "[default: that of --voices, else espeak-ng]",
        ),
    ] = None,
    voices: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder with the voices of Piper or Kokoro."),
    ] = None,
    language: Annotated[
        str, typer.Option(metavar="CODE", help="Language of the words: en, en-gb, de ...")
    ] = "en",
    similar: Annotated[
        bool,
        typer.Option(
            "--similar",
            help="Also synthesize words that sound similar, and parts of phrases, as other speech.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Seed of the variation.")] = 0,
    json: options.Json = False,
) -> None:
    """Synthesize words for training, in many voices.

    Takes are named `made-VOICE_N.wav`. They are used for training only, never for validation or
    testing; delete them with `rm DIR/*/made-*`. Takes that exist are kept.
    """
    from speechgru.corpora.synthetic.engines import open_engine
    from speechgru.corpora.synthetic.writing import foreign_words
    from speechgru.corpora.synthetic.writing import synthesize as write

    options.check_out_dir(out_dir)
    if foreign := foreign_words(words, language):
        err.line(f"{', '.join(foreign)}: read by English voices; --language CODE names another")
    opened = open_engine(engine, language, voices)
    with progress_bar("synthesizing") as progress:
        done = write(out_dir, words, takes, opened, similar, seed, progress)
    if json:
        print_json(done.as_dict())
        return
    out.line(
        f"{len(done.written)} takes written to {out_dir}, {done.existing} existed already; "
        f"{len(done.voices)} voices of {done.engine}"
    )
    for word, texts in done.similar.items():
        out.line(f"similar to {word}: {', '.join(texts) or 'nothing found'}")
