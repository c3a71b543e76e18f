"""`speechgru data stream`: a stream made from the clips of a split, and its truth file."""

from pathlib import Path
from typing import Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import out, print_json
from speechgru.errors import UsageError

MIX = "Mix"


@examples(
    "speechgru data stream my-words/ -o stream.flac",
    "speechgru data stream my-words/ -o long.wav --minutes 60 --snr 0:10",
    "speechgru data stream my-words/ -o talk.flac --minutes 90 --talk bundled",
)
def stream(
    directory: Annotated[
        str,
        typer.Argument(metavar="DIR", help="Directory of recordings, CSV manifest, or 'embedded'."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="A .flac or .wav file; the truth gets the same name with .json.",
        ),
    ],
    protocol: Annotated[
        str,
        typer.Option(
            metavar="P",
            help="Labels and clips. [default: commands-12 if all its words are there, else folder]",
            show_default=False,
        ),
    ] = "",
    split: options.Split = "testing",
    minutes: Annotated[
        float,
        typer.Option(metavar="M", help="Length of the stream, in minutes.", rich_help_panel=MIX),
    ] = 20.0,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the stream.", rich_help_panel=MIX)
    ] = 0,
    snr: Annotated[str, options.snr_in(MIX)] = "5:20",
    gap: Annotated[
        str | None,
        typer.Option(
            metavar="LOW:HIGH",
            help="Seconds of background before clips. [default: 0.2:2; with --talk 0.3:5]",
            rich_help_panel=MIX,
        ),
    ] = None,
    unknown: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="Share of clips of unknown words, 0 to 1. [default: 0.4]",
            rich_help_panel=MIX,
        ),
    ] = None,
    talk: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Put stretches of talk before the words: of recordings without the words, or "
            "'bundled', the speech that ships with the package.",
            rich_help_panel=MIX,
        ),
    ] = None,
    json: options.Json = False,
) -> None:
    """Mix clips with noise, unknown words and gaps into one recording.

    With --talk there are stretches of talk and of quiet, and three words after each.

    The truth says where each word is; `evaluate --streaming --audio FILE` scores a model with it.
    """
    options.check_split(split)
    from speechgru.audio.samples import SAMPLE_RATE
    from speechgru.cli.tables.corpus import print_skipped
    from speechgru.corpora.conversations import ConversationPlan, open_talk, write_conversation
    from speechgru.corpora.split_audio import open_split_audio
    from speechgru.corpora.streams import StreamPlan, check_name, truth_of, write_stream

    check_name(output)
    for path in (output, truth_of(output)):
        options.check_output(path, "--output")
    snr_db = options.number_range(snr, "--snr")
    gap_s = options.number_range(gap or ("0.2:2" if talk is None else "0.3:5"), "--gap")
    if talk is not None and unknown is not None:
        raise UsageError("--unknown: has no effect together with --talk")
    plan = (
        ConversationPlan(minutes, seed, snr_db, gap_s)
        if talk is not None
        else StreamPlan(minutes, seed, snr_db, gap_s, 0.4 if unknown is None else unknown)
    )
    with progress_bar("decoding") as progress:
        audio = open_split_audio(directory, protocol, split, SAMPLE_RATE, progress)
    with progress_bar("writing") as progress:
        if isinstance(plan, ConversationPlan):
            speech = open_talk(str(talk), SAMPLE_RATE, audio.task.labels)
            print_skipped(speech.skipped)
            truth = write_conversation(output, audio, speech, plan, progress)
        else:
            truth = write_stream(output, audio, plan, progress)
    words = sum(spoken.word != "_unknown_" for spoken in truth.words)
    unknown_words = len(truth.words) - words
    truth_file = truth_of(output)
    if json:
        print_json(
            {
                "audio": str(output),
                "truth": str(truth_file),
                "duration_s": truth.duration_s,
                "words": words,
                "unknown_words": unknown_words,
                **truth.made,
            }
        )
        return
    out.line(
        f"{output}: {minutes:g} minutes, {words:,} words, {unknown_words:,} unknown; "
        f"truth in {truth_file}"
    )
