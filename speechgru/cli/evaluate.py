"""`speechgru evaluate`: how good a model is on a split of recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli.evaluate_streaming import (
    Heard,
    StreamOptions,
    evaluate_ambient,
    evaluate_streaming,
    evaluate_strings,
    string_plan,
)
from speechgru.cli.terminal import print_json, progress_bar
from speechgru.errors import GateError, UsageError

if TYPE_CHECKING:
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.evaluation.ambient import AmbientReport
    from speechgru.evaluation.carried import CarriedReport
    from speechgru.evaluation.clip_report import ClipReport
    from speechgru.evaluation.sequences import SequenceReport
    from speechgru.recognition.backend import Backend


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Directory of recordings, CSV manifest, or 'embedded'."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="P", help="Which clips and labels. [default: the model's own]"),
    ] = None,
    split: Annotated[str, typer.Option(help="training, validation or testing.")] = "testing",
    carry_state: Annotated[
        bool,
        typer.Option("--carry-state", help="Also as one stream whose state is never reset."),
    ] = False,
    orders: Annotated[int, typer.Option(min=1, max=1000, help="Random orders of that stream.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="Decides orders and streams.")] = 0,
    streaming: Annotated[
        bool, typer.Option("--streaming", help="Also a stream of the clips, with noise and gaps.")
    ] = False,
    audio: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A recording to stream instead; DIR may be left out."),
    ] = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Its words and times. [default: the .json beside it]"),
    ] = None,
    minutes: Annotated[float, typer.Option(help="Length of the stream made of DIR.")] = 20.0,
    ambient: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Also recordings without words: events an hour; DIR may be one."
        ),
    ] = None,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="When the stream resets the state: carry, silence, event."
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(metavar="X", help="A word of the stream needs this, whichever it is."),
    ] = None,
    sequences: Annotated[
        bool, typer.Option("--sequences", help="Also the clips' words in strings: word error rate.")
    ] = False,
    words: Annotated[str, typer.Option(metavar="LOW:HIGH", help="Words in a string.")] = "3:7",
    gap: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="Seconds between the words of a string.")
    ] = "0:0.3",
    snr: Annotated[
        str, typer.Option(metavar="LOW:HIGH", help="A string's words over the background, dB.")
    ] = "20:30",
    beam: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Hypotheses that a CTC head's words have."),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Phrases, one a line, that a CTC head's words make."),
    ] = None,
    tune: Annotated[
        bool,
        typer.Option("--tune", help="Try decoders and policies first, in ambient sound too."),
    ] = False,
    keep: Annotated[
        bool, typer.Option("--keep", help="Write what --tune chose into the model's file.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    picture: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png", help="Draw the confusions, or the stream's DET curve."),
    ] = None,
    min_accuracy: Annotated[
        float | None,
        typer.Option(metavar="X", min=0.0, max=1.0, help="Exit 5 below this share of clips."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Recognize every clip of a split: accuracy, confusions, and the files to listen to."""
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture}: pictures are PNG; a name ending in .png is needed")
    options = StreamOptions(
        audio, truth, minutes, seed, split, state, threshold, beam, grammar, tune, keep, picture
    )
    options.check(streaming, ambient is not None, sequences)
    strings = string_plan(words, gap, snr, seed)
    without_clips = audio is not None or ambient is not None
    of_clips = carry_state or sequences or min_accuracy is not None
    if data is None and (not without_clips or of_clips):
        raise UsageError("--data DIR: recordings to evaluate on are needed")
    from speechgru.backends.loader import open_backend
    from speechgru.evaluation.ambient import open_ambient

    backend = open_backend(model, device)
    if carry_state or streaming or sequences:
        backend.check_streams()
    ambient_sound = open_ambient(ambient, backend.sample_rate) if ambient is not None else None
    split_audio = open_split(backend, data, protocol, split) if data is not None else None
    clips = carried = heard = errors = None
    if split_audio is not None:
        clips, carried = _evaluate_clips(backend, split_audio, orders if carry_state else 0, seed)
    if streaming:
        heard = evaluate_streaming(backend, model, options, split_audio, ambient_sound)
    if split_audio is not None and sequences:
        errors = evaluate_strings(backend, options, strings, split_audio, heard)
    around = evaluate_ambient(backend, ambient_sound, options, heard) if ambient_sound else None
    if json:
        _print_figures(clips, carried, errors, heard, around)
    else:
        _print_tables(clips, carried, errors, heard, around)
    if picture is not None and clips and not streaming:
        from speechgru.evaluation.confusion_picture import save_confusion_picture

        save_confusion_picture(clips, picture)
    if min_accuracy is not None and clips and clips.accuracy < min_accuracy:
        raise GateError(
            f"accuracy {clips.accuracy:.4f} on {clips.n} clips is below "
            f"--min-accuracy {min_accuracy:g}"
        )


def _evaluate_clips(
    backend: "Backend", audio: "SplitAudio", orders: int, seed: int
) -> "tuple[ClipReport, CarriedReport | None]":
    """Every clip from silence, and as `orders` streams, if any."""
    from speechgru.evaluation.carried import evaluate_carried
    from speechgru.evaluation.clips import evaluate_clips

    of_split = audio.task, audio.split, audio.packed
    with progress_bar("recognizing") as progress:
        clips = evaluate_clips(backend, *of_split, progress=progress)
    if not orders:
        return clips, None
    with progress_bar("carrying the state") as progress:
        return clips, evaluate_carried(backend, *of_split, orders, seed, progress=progress)


def _print_figures(
    clips: "ClipReport | None",
    carried: "CarriedReport | None",
    errors: "SequenceReport | None",
    heard: "Heard | None",
    around: "AmbientReport | None",
) -> None:
    figures: dict[str, Any] = {}
    if clips:
        figures |= clips.as_dict()
    if clips and carried:
        figures |= carried.as_dict(clips)
    if errors:
        figures["sequences"] = errors.as_dict()
    if heard:
        figures |= heard.as_dict()
    if around:
        figures["ambient"] = around.as_dict()
    print_json(figures)


def _print_tables(
    clips: "ClipReport | None",
    carried: "CarriedReport | None",
    errors: "SequenceReport | None",
    heard: "Heard | None",
    around: "AmbientReport | None",
) -> None:
    from speechgru.cli.tables.clips import print_carried, print_clips
    from speechgru.cli.tables.sequences import print_sequences
    from speechgru.cli.tables.streams import print_ambient, print_stream, print_trials

    if clips:
        print_clips(clips)
    if clips and carried:
        print_carried(carried, clips)
    if errors:
        print_sequences(errors)
    if heard:
        print_trials(heard.trials)
        print_stream(heard.report)
    if around:
        print_ambient(around)


def open_split(backend: "Backend", data: str, protocol: str | None, split: str) -> "SplitAudio":
    """A split by the model's own protocol, unless another is named.

    Raises:
        UsageError: no protocol is named and the model knows none, or there is no such one.
        DataError: the corpus cannot be read, or the split has no clips.
    """
    from speechgru.corpora.split_audio import open_split_audio

    protocol = protocol or str(backend.metadata.get("protocol") or "")
    if not protocol:
        raise UsageError("--protocol: the model was saved without one, so one must be named")
    with progress_bar("decoding") as progress:
        return open_split_audio(data, protocol, split, backend.sample_rate, progress)
