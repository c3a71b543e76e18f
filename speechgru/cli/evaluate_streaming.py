"""`speechgru evaluate --streaming`: how good a model is on a stream."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechgru.cli.terminal import progress_bar
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.evaluation.ambient import AmbientReport
    from speechgru.evaluation.streams import StreamCase, StreamReport
    from speechgru.evaluation.tuning import Trial
    from speechgru.model import SpeechGRU


@dataclass(frozen=True)
class StreamOptions:
    """What the command line says of the stream and its detector."""

    audio: Path | None
    truth: Path | None
    minutes: float
    seed: int
    split: str
    state: str | None
    threshold: float | None
    tune: bool
    keep: bool
    picture: Path | None

    def check(self, streaming: bool, ambient: bool) -> None:
        """See that the options make sense together, with or without --streaming and --ambient.

        Raises:
            UsageError: they do not.
        """
        if not streaming:
            of_both = () if ambient else ("state", "threshold")
            for option in ("audio", "truth", *of_both, "tune", "keep"):
                if getattr(self, option) not in (None, False):
                    raise UsageError(f"--{option}: is of a stream, so --streaming is needed too")
            return
        if self.truth is not None and self.audio is None:
            raise UsageError("--truth: is of a recording, so --audio FILE is needed too")
        if self.keep and not self.tune:
            raise UsageError("--keep: keeps what --tune chose, so --tune is needed too")
        if self.tune and (self.state is not None or self.threshold is not None):
            raise UsageError("--tune: chooses --state and --threshold itself; leave them out")
        if self.tune and self.audio is None and self.split == "testing":
            raise UsageError(
                "--tune: what is chosen on the testing split is not measured by it; "
                "--split validation is needed"
            )


@dataclass(frozen=True)
class Heard:
    """What became of the stream, and the detectors that were tried before it."""

    report: "StreamReport"
    trials: "list[Trial]"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tried = {"trials": [trial.as_dict() for trial in self.trials]} if self.trials else {}
        return self.report.as_dict() | tried


def evaluate_streaming(
    network: "SpeechGRU", model: Path, options: StreamOptions, audio: "SplitAudio | None"
) -> Heard:
    """Score the stream, made of `audio` where no recording is named; tune, keep, draw if asked."""
    from speechgru.backend import TorchBackend
    from speechgru.evaluation.streams import evaluate_stream
    from speechgru.evaluation.tuning import tune
    from speechgru.streaming import stream_settings

    backend = TorchBackend(network)
    case = _case(network, options, audio)
    trials: list[Trial] = []
    if options.tune:
        with progress_bar("trying detectors, in seconds of audio") as progress:
            trials = tune(backend, case.sound, case.truth, progress=progress)
        config, policy = trials[0].config, trials[0].policy
    else:
        config, policy = stream_settings(backend.metadata, options.threshold, options.state)
    with progress_bar("listening, in seconds of audio") as progress:
        keep = options.picture is not None
        report = evaluate_stream(backend, case, config, policy, progress, keep)
    if options.keep:
        _keep(network, model, report)
    if options.picture is not None:
        _draw(backend, report, options.picture)
    return Heard(report, trials)


def evaluate_ambient(network: "SpeechGRU", path: Path, options: StreamOptions) -> "AmbientReport":
    """Hear a folder of recordings in which no word is said."""
    from speechgru.backend import TorchBackend
    from speechgru.evaluation.ambient import hear_ambient, open_ambient
    from speechgru.streaming import stream_settings

    backend, sound = TorchBackend(network), open_ambient(path, network.sample_rate)
    settings = stream_settings(backend.metadata, options.threshold, options.state)
    with progress_bar("listening to ambient audio, in seconds") as progress:
        _, report = hear_ambient(backend, sound, *settings, progress)
    return report


def _case(network: "SpeechGRU", options: StreamOptions, audio: "SplitAudio | None") -> "StreamCase":
    from speechgru.corpora.streams import StreamPlan
    from speechgru.evaluation.streams import case_of_files, case_of_split

    if options.audio is not None:
        return case_of_files(options.audio, options.truth, network.sample_rate, network.labels)
    assert audio is not None
    return case_of_split(audio, StreamPlan(minutes=options.minutes, seed=options.seed))


def _keep(network: "SpeechGRU", model: Path, report: "StreamReport") -> None:
    """Write the chosen detector and policy into the model's file, and on what they were chosen."""
    from speechgru.modelfile import save_model

    network.metadata["decoder"] = report.config.model_dump()
    network.metadata["state_policy"] = report.policy.model_dump()
    network.metadata.pop("calibration", None)  # it was of the detector that was there before
    network.metadata["decoder_chosen_on"] = report.case.source | {"errors": report.events.errors}
    save_model(network, model)


def _draw(backend: Any, report: "StreamReport", picture: Path) -> None:
    from speechgru.evaluation.det import OperatingPoint, det_curve, save_det_picture

    with progress_bar("trying thresholds") as progress:
        case = report.case
        points = det_curve(
            backend, case.sound, case.truth, report.hearing, report.config, report.policy, progress
        )
    events = report.events
    chosen = OperatingPoint(
        report.config.threshold, events.false_alarms_per_hour, events.false_reject_rate
    )
    title = f"{case.title}\n{events.n:,} words, state: {report.policy}"
    save_det_picture(points, chosen, title, picture)
