"""`speechgru evaluate --streaming` and `--sequences`: how good a model is on streams."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechgru.cli.terminal import pair, progress_bar
from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.corpora.sequences import StringPlan
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.decoding.factory import DecoderConfig
    from speechgru.decoding.grammar import Grammar
    from speechgru.evaluation.ambient import AmbientReport, AmbientSound
    from speechgru.evaluation.sequences import SequenceReport
    from speechgru.evaluation.streams import StreamCase, StreamReport
    from speechgru.evaluation.tuning import Trial
    from speechgru.recognition.backend import Backend
    from speechgru.recognition.state_policy import StatePolicy


@dataclass(frozen=True)
class StreamOptions:
    """What the command line says of streams and of what decodes them."""

    audio: Path | None
    truth: Path | None
    minutes: float
    seed: int
    split: str
    state: str | None
    threshold: float | None
    beam: int | None
    grammar: Path | None
    tune: bool
    keep: bool
    picture: Path | None

    def check(self, streaming: bool, ambient: bool, sequences: bool) -> None:
        """See that the options make sense together, and with what is to be heard.

        Raises:
            UsageError: they do not.
        """
        of_stream = ("audio", "truth", "tune", "keep")
        of_all = () if ambient or sequences else ("state", "threshold", "beam", "grammar")
        for option in () if streaming else (*of_stream, *of_all):
            if getattr(self, option) not in (None, False):
                wanted = "--streaming" + " or --sequences" * (option in of_all)
                raise UsageError(f"--{option}: is of a stream, so {wanted} is needed too")
        if not streaming:
            return
        if self.truth is not None and self.audio is None:
            raise UsageError("--truth: is of a recording, so --audio FILE is needed too")
        if self.keep and not self.tune:
            raise UsageError("--keep: keeps what --tune chose, so --tune is needed too")
        for option in ("state", "threshold", "beam", "grammar") if self.tune else ():
            if getattr(self, option) is not None:
                raise UsageError(f"--tune: chooses the decoder itself; leave --{option} out")
        if self.tune and self.audio is None and self.split == "testing":
            raise UsageError(
                "--tune: what is chosen on the testing split is not measured by it; "
                "--split validation is needed"
            )


@dataclass(frozen=True)
class Heard:
    """What became of the stream, and the decoders that were tried before it."""

    report: "StreamReport"
    trials: "list[Trial]"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tried = {"trials": [trial.as_dict() for trial in self.trials]} if self.trials else {}
        return self.report.as_dict() | tried


def evaluate_streaming(
    backend: "Backend",
    model: Path,
    options: StreamOptions,
    audio: "SplitAudio | None",
    ambient: "AmbientSound | None" = None,
) -> Heard:
    """Score the stream, made of `audio` where no recording is named; tune, keep, draw if asked.

    What is tuned is tuned to `ambient` sound too.
    """
    from speechgru.evaluation.streams import evaluate_stream
    from speechgru.evaluation.tuning import GRIDS, rank, tune

    case = _case(backend, options, audio)
    trials: list[Trial] = []
    config, policy, grammar = decoder_settings(backend, options)
    if options.tune:
        for head in backend.outputs:
            with progress_bar(f"trying decoders ({head}), in seconds of audio") as progress:
                grid = GRIDS[head]
                trials += tune(backend, case.sound, case.truth, grid, progress, ambient)
        trials.sort(key=rank)
        config, policy = trials[0].config, trials[0].policy
    with progress_bar("listening, in seconds of audio") as progress:
        keep = options.picture is not None
        report = evaluate_stream(backend, case, config, policy, progress, keep, grammar)
    if options.keep:
        tuned_to = ambient.described | {"events": trials[0].ambient} if ambient else None
        _keep(backend, model, report, tuned_to)
    if options.picture is not None:
        _draw(backend, report, options.picture)
    return Heard(report, trials)


def evaluate_ambient(
    backend: "Backend", sound: "AmbientSound", options: StreamOptions, heard: Heard | None
) -> "AmbientReport":
    """Recordings in which no word is said, by the decoder that `heard` the stream, if one did."""
    from speechgru.evaluation.ambient import hear_ambient

    config, policy, grammar = decoder_settings(backend, options, heard)
    with progress_bar("listening to ambient audio, in seconds") as progress:
        _, report = hear_ambient(backend, sound, config, policy, progress, grammar=grammar)
    return report


def string_plan(words: str, gap: str, snr: str, seed: int) -> "StringPlan":
    """How strings are made, from what the options say.

    Raises:
        UsageError: one of them is no LOW:HIGH, or out of range.
    """
    from speechgru.corpora.sequences import StringPlan

    few, many = pair(words, "--words")
    if not few.is_integer() or not many.is_integer():
        raise UsageError(f"--words {words}: LOW:HIGH, two whole numbers, is needed")
    return StringPlan((int(few), int(many)), pair(gap, "--gap"), pair(snr, "--snr"), seed)


def evaluate_strings(
    backend: "Backend",
    options: StreamOptions,
    plan: "StringPlan",
    audio: "SplitAudio",
    heard: Heard | None,
) -> "SequenceReport":
    """The word error rate of strings of a split, by the decoder that `heard` the stream, if any."""
    from speechgru.corpora.sequences import Strings
    from speechgru.evaluation.sequences import evaluate_sequences

    config, policy, grammar = decoder_settings(backend, options, heard)
    strings = Strings(audio, plan)
    with progress_bar("listening, in strings") as progress:
        report = evaluate_sequences(backend, strings, config, policy, grammar, progress)
    model: Any = getattr(backend, "model", None)  # an exported one has no attention decoder
    if model is None or model.speller is None:
        return report
    from speechgru.evaluation.sequences import spell_strings

    with progress_bar("spelling, in strings") as progress:
        return replace(report, spelled=spell_strings(model, strings, progress))


def decoder_settings(
    backend: "Backend", options: StreamOptions, heard: Heard | None = None
) -> "tuple[DecoderConfig, StatePolicy, Grammar | None]":
    """Those that `heard`; else the model's own, but for what the options say."""
    from speechgru.decoding.factory import choose_decoder
    from speechgru.recognition.recognizer import stream_settings

    own, grammar = choose_decoder(backend.info, options.beam, options.grammar)
    if heard is not None:
        return heard.report.config, heard.report.policy, grammar
    config, policy = stream_settings(backend.metadata, options.threshold, options.state, own)
    return config, policy, grammar


def _case(backend: "Backend", options: StreamOptions, audio: "SplitAudio | None") -> "StreamCase":
    from speechgru.corpora.streams import StreamPlan
    from speechgru.evaluation.streams import case_of_files, case_of_split

    if options.audio is not None:
        return case_of_files(options.audio, options.truth, backend.sample_rate, backend.labels)
    assert audio is not None
    return case_of_split(audio, StreamPlan(minutes=options.minutes, seed=options.seed))


def _keep(
    backend: "Backend", model: Path, report: "StreamReport", ambient: dict[str, Any] | None
) -> None:
    """Write the chosen decoder and policy into the model's file, and on what they were chosen."""
    from speechgru.backends.loader import write_metadata
    from speechgru.decoding.factory import head_of, metadata_key

    metadata = dict(backend.metadata) | {
        "head": head_of(report.config),
        metadata_key(report.config): report.config.model_dump(),
        "state_policy": report.policy.model_dump(),
        "decoder_chosen_on": report.case.source | {"errors": report.events.errors},
    }
    if ambient is not None:
        metadata["decoder_chosen_on"]["ambient"] = ambient
    metadata.pop("calibration", None)  # it was of the decoder that was there before
    write_metadata(model, metadata)


def _draw(backend: "Backend", report: "StreamReport", picture: Path) -> None:
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
