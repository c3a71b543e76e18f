"""`speechgru listen`: words from a microphone, a file or a pipe, as they are spoken."""

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli import options
from speechgru.cli.decoder_options import DecoderOptions
from speechgru.cli.help import examples
from speechgru.cli.inputs import report_channel, report_unheard
from speechgru.cli.interrupts import Interrupts
from speechgru.cli.progress import progress_lines
from speechgru.cli.stream_source import SourceOptions
from speechgru.cli.terminal import err, out
from speechgru.cli.views.events import (
    JsonLineView,
    JsonView,
    LineView,
    NearMisses,
    View,
    explanation,
    worth_saving,
)
from speechgru.errors import InterruptedRunError, SpeechGRUError, UsageError
from speechgru.modelfile.bundled import bundled_model, find_model

if TYPE_CHECKING:
    from speechgru.recognition.recognizer import Recognizer
    from speechgru.recognition.session import Summary

SOUND, DECODING, ACTIONS, RECORDING = "Sound", "Decoding", "Actions", "Recording"


#: A recording that is shorter is perhaps a single word.
_SHORT_S = 3.0


@examples(
    "speechgru listen",
    "speechgru listen runs/mine --device usb --explain",
    "speechgru listen mine.onnx --input recording.wav --jsonl",
    "speechgru listen runs/mine --save-dir caught --save-near-misses",
    "speechgru listen --on go='play go.wav' --record all.wav",
    "arecord -f S16_LE -r 16000 -t raw | speechgru listen --input -",
)
def listen(
    model: options.OptionalModel = None,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="ID|NAME",
            help="Microphone: its id or part of its name. [default: the system's]",
            rich_help_panel=SOUND,
        ),
    ] = None,
    input_: Annotated[
        str | None,
        typer.Option(
            "--input",
            metavar="FILE|-",
            help="A recording, or - for stdin.",
            rich_help_panel=SOUND,
        ),
    ] = None,
    realtime: Annotated[
        bool,
        typer.Option(
            "--realtime", help="Play a recording at its own speed.", rich_help_panel=SOUND
        ),
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option(
            metavar="HZ",
            help="Rate of the microphone, or of PCM on stdin. [default for PCM: 16000]",
            rich_help_panel=SOUND,
        ),
    ] = None,
    format_: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="s16le|f32le",
            help="Samples of PCM on stdin. [default: s16le]",
            rich_help_panel=SOUND,
        ),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Channels of PCM on stdin. [default: 1]", rich_help_panel=SOUND
        ),
    ] = None,
    channel: options.Channel = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[WORD=]X",
            help="Threshold of one word or of all, up to 1; repeatable. [default: the model's own]",
            rich_help_panel=DECODING,
        ),
    ] = None,
    within_speech: Annotated[
        bool,
        typer.Option(
            "--within-speech",
            help="Also accept words spoken directly after other words.",
            rich_help_panel=DECODING,
        ),
    ] = False,
    beam: options.Beam = None,
    grammar: options.GrammarFile = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Report words that were nearly recognized, and why they were not.",
            rich_help_panel=DECODING,
        ),
    ] = False,
    on: Annotated[
        list[str] | None,
        typer.Option(
            metavar="WORD=COMMAND",
            help="Run a program when a word is recognized; repeatable.",
            rich_help_panel=ACTIONS,
        ),
    ] = None,
    on_timeout: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="S",
            help="Kill a program that runs for longer than this, in seconds.",
            rich_help_panel=ACTIONS,
        ),
    ] = 10.0,
    save_dir: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Save the sound of each event as DIR/WORD/TIME.wav, to `review`.",
            rich_help_panel=RECORDING,
        ),
    ] = None,
    save_near_misses: Annotated[
        bool,
        typer.Option(
            "--save-near-misses",
            help="With --save-dir, also save words that were nearly recognized.",
            rich_help_panel=RECORDING,
        ),
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.wav", help="Record the whole stream.", rich_help_panel=RECORDING
        ),
    ] = None,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="Print one JSON object per event on stdout, at once.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object on stdout, at the end.")
    ] = False,
) -> None:
    """Recognize words live, from a microphone, a file or a pipe."""
    if jsonl and json:
        raise UsageError("--jsonl and --json: use only one of them")
    if save_near_misses and save_dir is None:
        raise UsageError("--save-near-misses: needs --save-dir DIR to save them in")
    path = find_model(model) if model is not None else bundled_model()
    from speechgru.audio.files import audio_suffixes
    from speechgru.recognition.actions import Actions, check_words, parse_hook, shell_warning
    from speechgru.recognition.recording import StreamSaver, check_new_recording

    # Wrong options are reported before torch, which takes seconds, is loaded.
    if path.suffix.lower() in audio_suffixes():
        raise UsageError(f"{path}: is a recording, not a model; use --input {path}")
    source = SourceOptions(input_, device, realtime, rate, format_, channels, channel)
    source.check()
    if input_ and not source.is_pipe:
        report_unheard(Path(input_), channel)
    hooks = [parse_hook(text) for text in on or []]
    for warning in filter(None, map(shell_warning, on or [])):
        err.line(warning)
    if record is not None:
        check_new_recording(record)
        options.check_output(record, "--record")
    if save_dir is not None:
        options.check_out_dir(save_dir, "--save-dir")
    if err.is_terminal:
        err.line(f"loading {path} ...")
    from speechgru.backends.loader import open_backend

    backend = open_backend(path)
    if input_ and not source.is_pipe:
        report_channel(backend, channel, Path(input_))
    wants_verdicts = explain or save_near_misses
    decoding = DecoderOptions(threshold or [], within_speech, beam, grammar, wants_verdicts)
    recognizer, decoder = decoding.recognizer(backend)
    for steps in (1, 2) if source.is_microphone else ():
        backend.compile(steps)  # a live block has one or two steps and must not wait for this
    check_words(hooks, decoder.words)

    from speechgru.audio.native_messages import quiet_native_code
    from speechgru.decoding.detector import Detector
    from speechgru.recognition.session import Summary
    from speechgru.recognition.session import listen as recognize_blocks

    summary = Summary(backend.sample_rate)
    view = _choose_view(recognizer, summary, jsonl, json)
    can_wait = not (source.is_microphone or source.is_pipe or realtime)
    actions = Actions(hooks, view.tell, on_timeout, waits=can_wait)
    name = str(model) if model else path.stem
    saver = StreamSaver(record, save_dir, summary.rate, view.tell, name)
    near_misses = None
    if wants_verdicts and isinstance(decoder, Detector):
        near_misses = NearMisses(decoder)
    interrupted = False
    shows_progress = can_wait and not err.is_terminal
    progress = progress_lines("listening, in seconds of audio") if shows_progress else None
    try:
        with (
            Interrupts() as interrupts,
            quiet_native_code(keep_python=True) if source.is_microphone else nullcontext(),
            view,
            actions,
            source.opened(summary.rate, view.tell) as sound,
            saver,
        ):
            view.begin(sound.name, decoder.words)
            for block in recognize_blocks(recognizer, interrupts.between(sound.blocks)):
                summary.add(block, sound.overruns)
                view.show(block)
                for timed in block.events:
                    actions.push(timed.event)
                verdicts = near_misses.new() if near_misses is not None else []
                saver.push(block, worth_saving(verdicts) if save_near_misses else ())
                if progress is not None:
                    progress(round(summary.seconds), 0)
                for verdict in verdicts if explain else ():
                    view.tell(explanation(verdict))
            if explain and near_misses is not None:  # the end has cut the last one off
                for verdict in near_misses.new():
                    view.tell(explanation(verdict))
    except KeyboardInterrupt:
        interrupted = True
    except SpeechGRUError:
        if summary.samples:  # what was recognized before is not lost
            view.end(summary, interrupted)
        raise
    view.end(summary, interrupted)
    if can_wait and not interrupted and not summary.events and summary.seconds < _SHORT_S:
        err.line(
            "a word at the very end of a recording gives no event; speechgru recognize names the "
            "word of a short one"
        )
    if interrupted:
        raise typer.Exit(InterruptedRunError.exit_code)
    if saver.failed:
        raise typer.Exit(SpeechGRUError.exit_code)


def _choose_view(recognizer: "Recognizer", summary: "Summary", jsonl: bool, json: bool) -> View:
    """JSON if asked for, the panel on a terminal, otherwise lines."""
    if json:
        return JsonView()
    if jsonl:
        return JsonLineView()
    if out.is_terminal and not out.console.is_dumb_terminal:
        from speechgru.cli.views.panel import PanelView

        return PanelView(recognizer, summary)
    return LineView()
