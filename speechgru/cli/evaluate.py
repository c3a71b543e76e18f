"""`speechgru evaluate`: measures a model on recordings."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.evaluate_streams import (
    StreamResult,
    evaluate_ambient,
    evaluate_conversation,
    evaluate_sequences,
    evaluate_stream,
    save_stream,
)
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_split, report_channel, report_silent, report_words_in
from speechgru.cli.progress import progress_bar
from speechgru.cli.stream_options import (
    CONVERSATION_MINUTES,
    GAP,
    ORDERS,
    SNR,
    STREAM_MINUTES,
    WORDS,
    StreamOptions,
    check_partner,
    sequence_plan,
)
from speechgru.cli.terminal import print_json
from speechgru.errors import GateError, UsageError
from speechgru.modelfile.bundled import find_model

if TYPE_CHECKING:
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.evaluation.ambient import AmbientReport
    from speechgru.evaluation.clip_report import ClipReport
    from speechgru.evaluation.clips import CarriedReport
    from speechgru.evaluation.conversations import ConversationReport
    from speechgru.evaluation.sequences import SequenceReport
    from speechgru.recognition.backend import Backend

CLIPS, CARRIED, STREAM, CONVERSATION, AMBIENT, SEQUENCES, DECODING = (
    "Clips",
    "Clips with the state carried over",
    "Stream",
    "Conversation",
    "Ambient recordings",
    "Sequences of words",
    "Decoding",
)


@examples(
    "speechgru evaluate runs/mine --data my-words/",
    "speechgru evaluate commands-12 --data speech_commands/ --carry-state",
    "speechgru evaluate runs/mine --data my-words/ --streaming --picture det.png",
    "speechgru evaluate runs/mine --data my-words/ --conversation",
    "speechgru evaluate runs/mine --ambient room/",
    "speechgru evaluate runs/mine --data my-words/ --streaming --tune --keep \\",
    "    --split validation",
)
def evaluate(
    model: options.Model,
    data: Annotated[str | None, options.data_in(CLIPS)] = None,
    protocol: Annotated[str | None, options.protocol_in(CLIPS)] = None,
    split: Annotated[str, options.split_in(CLIPS)] = "testing",
    min_accuracy: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            min=0.0,
            max=1.0,
            help="Exit with code 5 if the accuracy is lower.",
            rich_help_panel=CLIPS,
        ),
    ] = None,
    carry_state: Annotated[
        bool,
        typer.Option(
            "--carry-state",
            help="Also score the clips one after another, without resetting the state.",
            rich_help_panel=CARRIED,
        ),
    ] = False,
    orders: Annotated[
        int,
        typer.Option(
            metavar="N",
            min=1,
            max=1000,
            help="Random orders of that stream; their mean is reported.",
            rich_help_panel=CARRIED,
        ),
    ] = ORDERS,
    streaming: Annotated[
        bool,
        typer.Option(
            "--streaming",
            help="Also score events on a stream of clips with noise and gaps.",
            rich_help_panel=STREAM,
        ),
    ] = False,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="M",
            help="Length of that stream, or of the conversation, in minutes. "
            f"[default: {STREAM_MINUTES:g}, or {CONVERSATION_MINUTES:g} for the conversation]",
            rich_help_panel=STREAM,
        ),
    ] = None,
    audio: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Use this recording as the stream; --data is not needed.",
            rich_help_panel=STREAM,
        ),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Words and times in that recording. [default: its name with .json]",
            rich_help_panel=STREAM,
        ),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option(
            "--tune",
            help="First choose the best decoder and reset policy, on streams, conversations and "
            "the --ambient recordings.",
            rich_help_panel=STREAM,
        ),
    ] = False,
    keep: Annotated[
        bool,
        typer.Option(
            "--keep",
            help="Write what --tune chose into the model file.",
            rich_help_panel=STREAM,
        ),
    ] = False,
    conversation: Annotated[
        bool,
        typer.Option(
            "--conversation",
            help="Also score commands after stretches of talk and pauses, in noise.",
            rich_help_panel=CONVERSATION,
        ),
    ] = False,
    talk: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Speech without the words: a directory, a file, or 'bundled', the speech that "
            "ships with the package. [default: bundled]",
            rich_help_panel=CONVERSATION,
        ),
    ] = None,
    ambient: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Also count events per hour in recordings without words (a directory or a file).",
            rich_help_panel=AMBIENT,
        ),
    ] = None,
    sequences: Annotated[
        bool,
        typer.Option(
            "--sequences",
            help="Also measure the word error rate on sequences of words.",
            rich_help_panel=SEQUENCES,
        ),
    ] = False,
    words: Annotated[
        str,
        typer.Option(metavar="LOW:HIGH", help="Words per sequence.", rich_help_panel=SEQUENCES),
    ] = WORDS,
    gap: Annotated[
        str,
        typer.Option(
            metavar="LOW:HIGH", help="Seconds between the words.", rich_help_panel=SEQUENCES
        ),
    ] = GAP,
    snr: Annotated[str, options.snr_in(SEQUENCES)] = SNR,
    state: Annotated[str | None, options.state_in(DECODING)] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            metavar="X",
            help="One threshold for all words, up to 1. [default: the model's own]",
            rich_help_panel=DECODING,
        ),
    ] = None,
    beam: options.Beam = None,
    grammar: options.GrammarFile = None,
    seed: Annotated[
        int,
        typer.Option(metavar="N", min=0, help="Seed of orders, streams and sequences."),
    ] = 0,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the confusion matrix or, with --streaming, the DET curve (missed words by "
            "false alarms).",
        ),
    ] = None,
    channel: options.Channel = None,
    device: options.Device = "auto",
    json: options.Json = False,
) -> None:
    """Measure a model: accuracy, confusions, false alarms, latency."""
    options.check_picture(picture)
    options.check_split(split)
    stream_options = StreamOptions(
        audio=audio,
        truth=truth,
        minutes=minutes,
        seed=seed,
        split=split,
        state=state,
        threshold=threshold,
        beam=beam,
        grammar=grammar,
        tune=tune,
        keep=keep,
        picture=picture,
        talk=talk,
        channel=channel,
    )
    has_clips = data is not None
    stream_options.check(streaming, ambient is not None, sequences, conversation, has_clips)
    plan = sequence_plan(words, gap, snr, seed)
    needs_no_clips = audio is not None or ambient is not None
    needs_clips = carry_state or sequences or conversation or min_accuracy is not None
    if data is None and (needs_clips or not needs_no_clips):
        raise UsageError("--data DIR: recordings to evaluate on are needed")
    check_partner("--data", has_clips, protocol=protocol is not None, split=split != "testing")
    check_partner("--carry-state", carry_state, orders=orders != ORDERS)
    draws = carry_state or streaming or conversation or sequences
    drawn = "--carry-state, --streaming, --conversation or --sequences"
    check_partner(drawn, draws, seed=seed != 0)
    check_partner("--sequences", sequences, words=words != WORDS, gap=gap != GAP, snr=snr != SNR)
    path = find_model(model)
    if keep:
        options.check_writable(model, path, "--keep")
        options.check_output(path, "--keep")
    from speechgru.backends.loader import open_backend
    from speechgru.cli.tables.corpus import print_skipped
    from speechgru.evaluation.ambient import open_ambient

    backend = open_backend(path, device)
    if carry_state or streaming or sequences or conversation:
        backend.check_streams()
    if ambient is not None:
        report_words_in(ambient, backend)
    ambient_sound = (
        open_ambient(ambient, backend.sample_rate, channel) if ambient is not None else None
    )
    split_audio = open_split(backend, data, protocol, split, channel) if data is not None else None
    if split_audio is not None and split_audio.corpus.clips:
        report_channel(backend, channel, split_audio.corpus.clips[0].path)
    elif ambient_sound is not None:
        report_channel(backend, channel, ambient_sound.paths[0])
    results = Results()
    if split_audio is not None:
        results.clips, results.carried = _evaluate_clips(
            backend, split_audio, orders if carry_state else 0, seed
        )
    if streaming:
        results.stream = evaluate_stream(backend, stream_options, split_audio, ambient_sound)
    if split_audio is not None and conversation:
        results.conversation = evaluate_conversation(
            backend, stream_options, split_audio, results.stream
        )
    if split_audio is not None and sequences:
        results.sequences = evaluate_sequences(
            backend, stream_options, plan, split_audio, results.stream
        )
    if ambient_sound is not None:
        print_skipped(ambient_sound.skipped)
        results.ambient = evaluate_ambient(backend, ambient_sound, stream_options, results.stream)
        report_silent(ambient_sound)
    clips = results.clips
    try:
        if results.stream is not None:
            save_stream(backend, path, stream_options, results.stream, ambient_sound)
        elif picture is not None and clips:
            from speechgru.evaluation.clip_report import save_confusion_picture

            save_confusion_picture(clips, picture)
    finally:  # what took long is not lost where a file cannot be written
        if json:
            print_json(results.as_dict())
        else:
            results.print()
    if min_accuracy is not None and clips and clips.accuracy < min_accuracy:
        raise GateError(
            f"accuracy {clips.accuracy:.4f} on {clips.n} clips is below "
            f"--min-accuracy {min_accuracy:g}"
        )


@dataclass
class Results:
    """What was measured; None for what was not requested."""

    clips: "ClipReport | None" = None
    carried: "CarriedReport | None" = None
    sequences: "SequenceReport | None" = None
    stream: StreamResult | None = None
    conversation: "ConversationReport | None" = None
    ambient: "AmbientReport | None" = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        figures: dict[str, Any] = {}
        if self.clips:
            figures |= self.clips.as_dict()
        if self.clips and self.carried:
            figures |= self.carried.as_dict(self.clips)
        if self.sequences:
            figures["sequences"] = self.sequences.as_dict()
        if self.stream:
            figures |= self.stream.as_dict()
        if self.conversation:
            figures["conversation"] = self.conversation.as_dict()
        if self.ambient:
            figures["ambient"] = self.ambient.as_dict()
        return figures

    def print(self) -> None:
        """As tables, one below the other."""
        from speechgru.cli.tables.clips import print_carried, print_clips
        from speechgru.cli.tables.sequences import print_sequences
        from speechgru.cli.tables.streams import (
            print_ambient,
            print_conversation,
            print_stream,
            print_trials,
        )

        if self.clips:
            print_clips(self.clips)
        if self.clips and self.carried:
            print_carried(self.carried, self.clips)
        if self.sequences:
            print_sequences(self.sequences)
        if self.stream:
            print_trials(self.stream.trials)
            print_stream(self.stream.report)
        if self.conversation:
            print_conversation(self.conversation)
        if self.ambient:
            print_ambient(self.ambient)


def _evaluate_clips(
    backend: "Backend", audio: "SplitAudio", orders: int, seed: int
) -> "tuple[ClipReport, CarriedReport | None]":
    """Score every clip from a fresh state and, if requested, in random orders with it carried."""
    from speechgru.evaluation.clips import evaluate_carried, evaluate_clips

    of_split = audio.task, audio.split, audio.packed
    with progress_bar("recognizing") as progress:
        clips = evaluate_clips(backend, *of_split, progress=progress)
    if not orders:
        return clips, None
    with progress_bar("carrying the state") as progress:
        return clips, evaluate_carried(backend, *of_split, orders, seed, progress=progress)
