"""`speechgru calibrate`: thresholds for a wanted number of false alarms an hour."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli.evaluate import open_split
from speechgru.cli.terminal import err, out, print_json, progress_bar
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.evaluation.calibration import Calibration


def calibrate(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="A trained model's file.")],
    ambient: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Recordings, or one, in which no word of the model is said."
        ),
    ],
    max_false_alarms_per_hour: Annotated[
        float, typer.Option(metavar="X", help="Wanted: events in such audio, of all words.")
    ],
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Recordings of the words: few of them shall be missed."),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(metavar="P", help="Which clips and labels. [default: the model's own]"),
    ] = None,
    minutes: Annotated[
        float, typer.Option(help="Length of the stream made of the validation split.")
    ] = 20.0,
    seed: Annotated[int, typer.Option(min=0, help="Decides that stream.")] = 0,
    state: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY", help="When the stream resets the state: carry, silence, event."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there instead of MODEL."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    picture: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw the DET curves; needs --data.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N or mps.")] = "auto",
    json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Choose a threshold for each word by what fires in ambient audio, and keep them in the model.

    What is said there counts as a false alarm, even where it is a word. With --data, a stream of
    the validation split, with noise and unknown words, says what is missed.
    """
    _check(max_false_alarms_per_hour, data, model, output, dry_run, picture)
    from speechgru.backends.loader import open_backend
    from speechgru.corpora.streams import StreamPlan
    from speechgru.decoding.factory import decoder_settings
    from speechgru.evaluation.ambient import open_ambient, too_short
    from speechgru.evaluation.calibration import calibrate as choose
    from speechgru.evaluation.streams import case_of_split
    from speechgru.recognition.recognizer import stream_settings

    backend = open_backend(model, device)
    sound = open_ambient(ambient, backend.sample_rate)
    config = decoder_settings(backend.info)
    _, policy = stream_settings(backend.metadata, mode=state)
    plan = StreamPlan(minutes=minutes, seed=seed)
    audio = open_split(backend, data, protocol, "validation") if data is not None else None
    case = case_of_split(audio, plan) if audio else None
    with progress_bar("listening, in seconds of audio") as progress:
        found = choose(backend, sound, case, max_false_alarms_per_hour, config, policy, progress)
    written = None if dry_run else output or model
    if picture is not None:
        _draw(found, picture)
    note = too_short(found.chosen.ambient.hours, max_false_alarms_per_hour)
    if written is not None:
        _write(backend.metadata, found, audio, model, written)
    if json:
        told = {"too_short": note, "written": str(written) if written else None}
        print_json(found.as_dict() | told)
        return
    from speechgru.cli.tables.calibration import print_calibration

    print_calibration(found)
    if note is not None:
        allowed = len(found.chosen.ambient.events)
        out.line(f"{note}. Thresholds were chosen that let {allowed or 'none'} through.")
    if written is not None:
        err.line(f"{written}: thresholds kept; `speechgru info {written}` shows them")


def _check(
    per_hour: float,
    data: str | None,
    model: Path,
    output: Path | None,
    dry_run: bool,
    picture: Path | None,
) -> None:
    """Find what makes no sense before torch is loaded."""
    if dry_run and output is not None:
        raise UsageError("--dry-run and --output: only one of them")
    if picture is not None and data is None:
        raise UsageError("--picture: draws what is missed, so --data DIR is needed too")
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture}: pictures are PNG; a name ending in .png is needed")
    if output is not None and output.suffix != model.suffix:
        raise UsageError(f"--output {output}: a name ending in {model.suffix} is needed")
    if not 0 < per_hour < float("inf"):
        raise UsageError(f"--max-false-alarms-per-hour {per_hour:g}: a number above 0 is needed")


def _write(
    metadata: Mapping[str, Any],
    found: "Calibration",
    audio: "SplitAudio | None",
    model: Path,
    output: Path,
) -> None:
    """Into a model's file: the thresholds, and how they were obtained."""
    from speechgru.backends.loader import write_metadata
    from speechgru.corpora.fingerprint import corpus_fingerprint
    from speechgru.decoding.factory import metadata_key
    from speechgru.version import __version__

    origin = found.provenance() | {"speechgru": __version__}
    if audio is not None:
        corpus = audio.corpus
        origin["data"] = {"name": corpus.root.name, "fingerprint": corpus_fingerprint(corpus)}
    chosen = {
        metadata_key(found.config): found.config.model_dump(),
        "state_policy": found.policy.model_dump(),
        "calibration": origin,
    }
    write_metadata(model, dict(metadata) | chosen, output)


def _draw(found: "Calibration", picture: Path) -> None:
    from speechgru.evaluation.det import save_det_picture

    assert found.case is not None
    chosen = found.chosen
    title = f"{found.ambient.root.name}, {chosen.ambient.hours:.2g} hours, and {found.case.title}"
    by_word = [outcome.point for outcome in found.trade_off]
    save_det_picture(found.one_for_all, chosen.point, title, picture, by_word)
