"""`speechgru calibrate`: thresholds that limit the rate of false alarms."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.inputs import open_split, report_channel, report_silent, report_words_in
from speechgru.cli.progress import progress_bar
from speechgru.cli.stream_options import STREAM_MINUTES, check_partner
from speechgru.cli.terminal import err, out, print_json
from speechgru.errors import DataError, UsageError
from speechgru.modelfile.bundled import find_model, is_bundled, why_no_model

if TYPE_CHECKING:
    from speechgru.evaluation.calibration import Calibration

STREAM, OUTPUT = "Stream of the validation split", "Output"
#: Of the stream, unless another is asked for.
SEED = 0


@examples(
    "speechgru calibrate runs/mine --ambient room/ \\",
    "    --max-false-alarms-per-hour 0.5 --data my-words/",
    "speechgru calibrate commands-12 --ambient room/ \\",
    "    --max-false-alarms-per-hour 1 -o mine.onnx",
)
def calibrate(
    model: options.Model,
    ambient: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Recordings (or one) in which no word of the model is spoken."
        ),
    ],
    max_false_alarms_per_hour: Annotated[
        float,
        typer.Option(metavar="X", help="Highest rate in these recordings, all words together."),
    ],
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Recordings of the words, to keep missed words low as well.",
            rich_help_panel=STREAM,
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            metavar="P",
            help="Labels and clips of the stream. [default: the model's own]",
            rich_help_panel=STREAM,
        ),
    ] = None,
    minutes: Annotated[
        float,
        typer.Option(metavar="M", help="Length of the stream, in minutes.", rich_help_panel=STREAM),
    ] = STREAM_MINUTES,
    seed: Annotated[
        int, typer.Option(metavar="N", min=0, help="Seed of the stream.", rich_help_panel=STREAM)
    ] = SEED,
    state: Annotated[str | None, options.state_in(None)] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Write the model here instead of changing it in place.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing.", rich_help_panel=OUTPUT)
    ] = False,
    picture: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw the DET curves (missed words by false alarms); needs --data.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    json: Annotated[
        bool,
        typer.Option("--json", help="Print one JSON object on stdout.", rich_help_panel=OUTPUT),
    ] = False,
    channel: options.Channel = None,
    device: options.Device = "auto",
) -> None:
    """Set thresholds that limit the rate of false alarms.

    Every event in the ambient recordings counts as a false alarm. With --data, a stream of the
    validation split with noise, and with unknown words where the protocol has them, shows how many
    words are missed. The thresholds are written into the model file.
    """
    of_stream = {"minutes": minutes != STREAM_MINUTES, "seed": seed != SEED}
    check_partner("--data", data is not None, protocol=protocol is not None, **of_stream)
    path = find_model(model)
    if path.is_dir():
        raise DataError(why_no_model(path))
    target = _Target(path, output, dry_run, picture)
    target.check(model, data is not None, max_false_alarms_per_hour)
    from speechgru.backends.loader import open_backend, write_metadata
    from speechgru.cli.tables.corpus import print_skipped
    from speechgru.corpora.streams import StreamPlan
    from speechgru.decoding.factory import decoder_settings
    from speechgru.evaluation.ambient import open_ambient, too_short
    from speechgru.evaluation.calibration import calibrate as choose
    from speechgru.evaluation.calibration import save_calibration_picture
    from speechgru.evaluation.streams import split_case
    from speechgru.recognition.recognizer import stream_settings

    backend = open_backend(path, device)
    sound = open_ambient(ambient, backend.sample_rate, channel)
    report_channel(backend, channel, sound.paths[0])
    report_words_in(ambient, backend)
    print_skipped(sound.skipped)
    config = decoder_settings(backend.info)
    _, policy = stream_settings(backend.metadata, mode=state)
    plan = StreamPlan(minutes=minutes, seed=seed)
    audio = open_split(backend, data, protocol, "validation", channel) if data is not None else None
    case = split_case(audio, plan) if audio else None
    with progress_bar("listening, in seconds of audio") as progress:
        found = choose(backend, sound, case, max_false_alarms_per_hour, config, policy, progress)
    report_silent(sound)
    note = too_short(found.chosen.ambient.hours, max_false_alarms_per_hour)
    written = None
    try:
        if target.file is not None:
            metadata = found.as_metadata(backend.metadata, audio.corpus if audio else None)
            write_metadata(path, metadata, target.file, measured=backend)
            written = str(target.file)
        if picture is not None:
            save_calibration_picture(found, picture)
    finally:  # what took long is not lost where a file cannot be written
        if json:
            print_json(found.as_dict() | {"too_short": note, "written": written})
        else:
            _print(found, note, written)


def _print(found: "Calibration", note: str | None, written: str | None) -> None:
    from speechgru.cli.tables.calibration import print_calibration

    print_calibration(found)
    if note is not None:
        allowed = len(found.chosen.ambient.events)
        out.line(f"{note}. The thresholds were chosen to let {allowed or 'none'} through.")
    if written is not None:
        same = found.chosen.thresholds == found.before.thresholds
        done = "no threshold has changed" if same else "thresholds written"
        err.line(f"{written}: {done}; `speechgru info {written}` shows them")


@dataclass(frozen=True)
class _Target:
    """Where the thresholds and the picture are written."""

    model: Path
    output: Path | None
    dry_run: bool
    picture: Path | None

    @property
    def file(self) -> Path | None:
        """The model file that is written, if any."""
        return None if self.dry_run else self.output or self.model

    def check(self, name: str, has_words: bool, per_hour: float) -> None:
        """Check the options before torch is loaded.

        Raises:
            UsageError: an option contradicts another, or is out of range.
        """
        if self.dry_run and self.output is not None:
            raise UsageError("--dry-run and --output: use only one of them")
        if self.picture is not None and not has_words:
            raise UsageError("--picture: draws missed words, so --data DIR is needed too")
        options.check_picture(self.picture)
        if self.output is not None and self.output.suffix != self.model.suffix:
            raise UsageError(f"--output {self.output}: use a name that ends in {self.model.suffix}")
        if is_bundled(self.model) and self.file == self.model:
            raise UsageError(
                f"{name} is bundled and stays as it is; --output FILE{self.model.suffix} is needed"
            )
        if self.file is not None and is_bundled(self.file):
            raise UsageError(f"--output {self.file}: is a bundled model, which stays as it is")
        options.check_output(self.file, "--output" if self.output else "MODEL")
        if not 0 < per_hour < float("inf"):
            raise UsageError(
                f"--max-false-alarms-per-hour {per_hour:g}: a number above 0 is needed"
            )
