"""The parts of `evaluate` with a decoder: streams, conversations, sequences, ambient recordings."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechgru.cli.inputs import report_unheard
from speechgru.cli.progress import progress_bar
from speechgru.cli.stream_options import CONVERSATION_MINUTES, STREAM_MINUTES, StreamOptions

if TYPE_CHECKING:
    from speechgru.corpora.sequences import SequencePlan
    from speechgru.corpora.split_audio import SplitAudio
    from speechgru.decoding.factory import DecoderConfig
    from speechgru.decoding.grammar import Grammar
    from speechgru.evaluation.ambient import AmbientReport, AmbientSound
    from speechgru.evaluation.conversations import ConversationReport
    from speechgru.evaluation.sequences import SequenceReport
    from speechgru.evaluation.streams import StreamCase, StreamReport
    from speechgru.evaluation.tuning import Trial
    from speechgru.recognition.backend import Backend
    from speechgru.recognition.state_policy import StatePolicy


#: A shorter conversation to tune on may hold no command.
_LEAST_TUNED_MINUTES = 1.0


@dataclass(frozen=True)
class StreamResult:
    """The events of a stream compared with its truth, and the decoders tried before.

    Args:
        talk: the conversation that they were also tried on, if any.
    """

    report: "StreamReport"
    trials: "list[Trial]"
    talk: "StreamCase | None" = None

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        tried = {"trials": [trial.as_dict() for trial in self.trials]} if self.trials else {}
        return self.report.as_dict() | tried


def evaluate_stream(
    backend: "Backend",
    options: StreamOptions,
    audio: "SplitAudio | None",
    ambient: "AmbientSound | None" = None,
) -> StreamResult:
    """Score a recording, or a stream made of `audio`; tune the decoder first if requested.

    The decoder is tuned on a conversation made of `audio` too, and with `ambient` on that sound.
    """
    from speechgru.evaluation import streams
    from speechgru.evaluation.tuning import GRIDS, rank, tune

    case = _case(backend, options, audio)
    trials: list[Trial] = []
    talk = None
    config, policy, grammar = decoder_settings(backend, options)
    if options.tune:
        if audio is not None:
            talk = _conversation(backend, options, audio, STREAM_MINUTES, _LEAST_TUNED_MINUTES)
        for head in backend.outputs:
            with progress_bar(f"trying decoders ({head}), in seconds of audio") as progress:
                grid = GRIDS[head]
                trials += tune(backend, case.sound, case.truth, grid, progress, ambient, talk)
        trials.sort(key=rank)
        config, policy = trials[0].config, trials[0].policy
    with progress_bar("listening, in seconds of audio") as progress:
        replayable = options.picture is not None
        report = streams.evaluate_stream(
            backend, case, config, policy, progress, replayable, grammar
        )
    return StreamResult(report, trials, talk)


def save_stream(
    backend: "Backend",
    model: Path,
    options: StreamOptions,
    stream: StreamResult,
    ambient: "AmbientSound | None" = None,
) -> None:
    """Store the tuned decoder in the model's file and draw the DET curve, if requested."""
    if options.keep:
        from speechgru.backends.loader import write_metadata
        from speechgru.evaluation.tuning import tuned_metadata

        best, talk = stream.trials[0], stream.talk
        around = ambient.description | {"events": best.ambient} if ambient else None
        talked = best.conversation
        talked_on = talk.source | {"errors": talked.errors} if talk and talked else None
        tuned = tuned_metadata(
            backend.metadata, stream.report, ambient=around, conversation=talked_on
        )
        write_metadata(model, tuned, measured=backend)
    if options.picture is not None:
        from speechgru.evaluation.det import save_stream_picture

        with progress_bar("trying thresholds") as progress:
            save_stream_picture(backend, stream.report, options.picture, progress)


def evaluate_conversation(
    backend: "Backend", options: StreamOptions, audio: "SplitAudio", stream: StreamResult | None
) -> "ConversationReport":
    """Score commands after talk, by the decoder of the stream, if there is one."""
    from speechgru.evaluation import streams
    from speechgru.evaluation.conversations import ConversationReport

    config, policy, grammar = decoder_settings(backend, options, stream)
    case = _conversation(backend, options, audio, CONVERSATION_MINUTES)
    with progress_bar("listening to a conversation, in seconds of audio") as progress:
        report = streams.evaluate_stream(
            backend, case, config, policy, progress, keep_log_posteriors=False, grammar=grammar
        )
    return ConversationReport(report)


def evaluate_ambient(
    backend: "Backend", sound: "AmbientSound", options: StreamOptions, stream: StreamResult | None
) -> "AmbientReport":
    """Count events in recordings without words, with the stream's decoder if there is one."""
    from speechgru.evaluation.ambient import recognize_ambient

    config, policy, grammar = decoder_settings(backend, options, stream)
    with progress_bar("listening to ambient audio, in seconds") as progress:
        _, report = recognize_ambient(backend, sound, config, policy, progress, grammar=grammar)
    return report


def evaluate_sequences(
    backend: "Backend",
    options: StreamOptions,
    plan: "SequencePlan",
    audio: "SplitAudio",
    stream: StreamResult | None,
) -> "SequenceReport":
    """Word error rate on sequences made from a split, with the stream's decoder if there is one."""
    from speechgru.corpora.sequences import Sequences
    from speechgru.evaluation import sequences

    config, policy, grammar = decoder_settings(backend, options, stream)
    made = Sequences(audio, plan)
    with progress_bar("listening, in sequences") as progress:
        report = sequences.evaluate_sequences(backend, made, config, policy, grammar, progress)
    model: Any = getattr(backend, "model", None)  # an exported one has no attention decoder
    if model is None or model.speller is None:
        return report
    from speechgru.evaluation.sequences import evaluate_attention

    with progress_bar("attention decoder, in sequences") as progress:
        return replace(report, attention=evaluate_attention(model, made, progress))


def decoder_settings(
    backend: "Backend", options: StreamOptions, stream: StreamResult | None = None
) -> "tuple[DecoderConfig, StatePolicy, Grammar | None]":
    """The stream's settings, otherwise the model's own with what the options change."""
    from speechgru.decoding.factory import choose_decoder
    from speechgru.recognition.recognizer import stream_settings

    own, grammar = choose_decoder(backend.info, options.beam, options.grammar)
    if stream is not None:
        return stream.report.config, stream.report.policy, grammar
    config, policy = stream_settings(backend.metadata, options.threshold, options.state, own)
    return config, policy, grammar


def _case(backend: "Backend", options: StreamOptions, audio: "SplitAudio | None") -> "StreamCase":
    from speechgru.corpora.streams import StreamPlan
    from speechgru.evaluation.streams import file_case, split_case

    if options.audio is not None:
        report_unheard(options.audio, options.channel)
        return file_case(
            options.audio, options.truth, backend.sample_rate, backend.labels, options.channel
        )
    assert audio is not None
    minutes = STREAM_MINUTES if options.minutes is None else options.minutes
    return split_case(audio, StreamPlan(minutes=minutes, seed=options.seed))


def _conversation(
    backend: "Backend",
    options: StreamOptions,
    audio: "SplitAudio",
    minutes: float,
    least_minutes: float = 0.0,
) -> "StreamCase":
    """The conversation of a split; so long unless the options say otherwise."""
    from speechgru.cli.tables.corpus import print_skipped
    from speechgru.corpora.conversations import BUNDLED, ConversationPlan, open_talk
    from speechgru.evaluation.conversations import conversation_case

    plan = ConversationPlan(minutes if options.minutes is None else options.minutes, options.seed)
    plan = replace(plan, minutes=max(plan.minutes, least_minutes))
    talk = open_talk(options.talk or BUNDLED, backend.sample_rate, backend.labels)
    print_skipped(talk.skipped)
    return conversation_case(audio, talk, plan)
