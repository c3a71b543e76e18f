"""`speechgru data stream`: a stream to score, made of a split's clips, and its truth."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli.terminal import out, pair, print_json, progress_bar


def stream(
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Directory of recordings, CSV manifest, or 'embedded'."),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help=".flac or .wav; the truth is .json."),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="Which clips and labels. [default: commands-12 where its words are, else folder]",
            show_default=False,
        ),
    ] = "",
    split: Annotated[str, typer.Option(help="training, validation or testing.")] = "testing",
    minutes: Annotated[float, typer.Option(help="Of audio.")] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Another stream for another one.")] = 0,
    snr: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="Words over the background, dB.")
    ] = "5:20",
    gap: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="Background between clips, seconds.")
    ] = "0.2:2",
    unknown: Annotated[
        float, typer.Option(metavar="X", help="Share of clips that are of no word.")
    ] = 0.4,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Write clips with background noise, unknown words and gaps, and where each word lies."""
    from speechgru.audio.files import SAMPLE_RATE
    from speechgru.corpora.split_audio import open_split_audio
    from speechgru.corpora.streams import StreamPlan, write_stream

    snr_db, gap_s = pair(snr, "--snr"), pair(gap, "--gap")
    plan = StreamPlan(minutes, seed, snr_db, gap_s, unknown)
    with progress_bar("decoding") as progress:
        audio = open_split_audio(directory, protocol, split, SAMPLE_RATE, progress)
    with progress_bar("writing") as progress:
        truth = write_stream(output, audio, plan, progress)
    words = sum(spoken.word != "_unknown_" for spoken in truth.words)
    if json:
        print_json(
            {
                "audio": str(output),
                "truth": str(output.with_suffix(".json")),
                "duration_s": truth.duration_s,
                "words": words,
                "unknown_words": len(truth.words) - words,
                **truth.made,
            }
        )
        return
    told = f"{output}: {minutes:g} minutes, {words:,} words, {len(truth.words) - words:,} unknown"
    out.line(f"{told}; truth in {output.with_suffix('.json')}")
