"""`speechgru listen`: words from a microphone, a file or a pipe, as they are said."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.interrupts import Interrupts
from speechgru.cli.listen_source import SourceOptions
from speechgru.cli.terminal import BUNDLED, err, out
from speechgru.cli.views.events import JsonLineView, JsonView, LineView, View
from speechgru.errors import InterruptedRunError, SpeechGRUError, UsageError
from speechgru.modelfile.bundled import bundled_model

if TYPE_CHECKING:
    from speechgru.cli.views.explanation import NearMisses
    from speechgru.decoding.ctc import CTCDecoder
    from speechgru.decoding.detector import Detector
    from speechgru.decoding.factory import DecoderConfig
    from speechgru.recognition.recognizer import Recognizer
    from speechgru.recognition.session import Summary


def listen(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help=f"A trained model's file. {BUNDLED}")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="ID|NAME", help="Microphone: its id, or part of its name.")
    ] = None,
    input_: Annotated[
        str | None, typer.Option("--input", metavar="FILE|-", help="A recording; -: PCM on stdin.")
    ] = None,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Hear a file as fast as it was spoken.")
    ] = False,
    rate: Annotated[
        int | None, typer.Option(metavar="HZ", help="Of the microphone, or of PCM [16000].")
    ] = None,
    format_: Annotated[
        str | None, typer.Option("--format", metavar="s16le|f32le", help="Of PCM [s16le].")
    ] = None,
    channels: Annotated[int | None, typer.Option(metavar="N", help="Of PCM [1].")] = None,
    on: Annotated[
        list[str] | None,
        typer.Option(metavar="WORD=COMMAND", help="Run a program on a word; repeatable."),
    ] = None,
    on_timeout: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="Kill such a program after this.")
    ] = 10.0,
    threshold: Annotated[
        list[str] | None,
        typer.Option(metavar="[WORD=]X", help="Probability that words need; repeatable."),
    ] = None,
    within_speech: Annotated[
        bool,
        typer.Option("--within-speech", help="Words count with others right before them, too."),
    ] = False,
    beam: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Hypotheses that a CTC head's words have."),
    ] = None,
    grammar: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Phrases, one a line, that a CTC head's words make."),
    ] = None,
    save_dir: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep each event's sound: DIR/WORD/TIME.wav.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE.wav", help="Keep all that is heard.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Tell what was nearly recognized, and what held it.")
    ] = False,
    jsonl: Annotated[
        bool, typer.Option("--jsonl", help="One JSON object an event on stdout, at once.")
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="One JSON object on stdout, at the end.")
    ] = False,
) -> None:
    """Recognize words as they are said; Ctrl-C ends it."""
    if jsonl and json:
        raise UsageError("--jsonl and --json: only one of them")
    model = model or bundled_model()
    from speechgru.audio.files import AUDIO_SUFFIXES
    from speechgru.recognition.actions import Actions, check_words, parse_hook
    from speechgru.recognition.recording import Keepers, check_new

    # What is wrong with the options must be told before torch takes its seconds to load.
    if model.suffix.lower() in AUDIO_SUFFIXES:
        raise UsageError(f"{model}: is a recording, and no model: --input {model} hears it")
    source = SourceOptions(input_, device, realtime, rate, format_, channels)
    source.check()
    hooks = [parse_hook(text) for text in on or []]
    if record is not None:
        check_new(record)
    recognizer, decoder = _open_recognizer(
        model, (threshold or [], within_speech), (beam, grammar, explain), source.is_microphone
    )
    check_words(hooks, decoder.words)

    from speechgru.audio.portaudio import quiet_native_code
    from speechgru.recognition.session import Summary
    from speechgru.recognition.session import listen as hear

    summary = Summary(recognizer.backend.sample_rate)
    view = _view(recognizer, summary, jsonl, json)
    actions = Actions(hooks, view.tell, on_timeout)
    keepers = Keepers(record, save_dir, summary.rate, view.tell)
    near_misses = _near_misses(decoder) if explain else None
    interrupted = False
    try:
        with (
            Interrupts() as interrupts,
            quiet_native_code(keep_python=True) if source.is_microphone else nullcontext(),
            view,
            actions,
            source.opened(summary.rate, view.tell) as sound,
            keepers,
        ):
            view.begin(sound.name, decoder.words)
            for heard in hear(recognizer, interrupts.between(sound.blocks)):
                summary.add(heard, sound.overruns)
                view.show(heard)
                for told in heard.events:
                    actions.push(told.event)
                keepers.push(heard)
                if near_misses is not None:
                    near_misses.tell_new(view.tell)
    except KeyboardInterrupt:
        interrupted = True
    view.end(summary, interrupted)
    if interrupted:
        raise typer.Exit(InterruptedRunError.exit_code)
    if keepers.failed:
        raise typer.Exit(SpeechGRUError.exit_code)


def _open_recognizer(
    path: Path,
    changes: tuple[Sequence[str], bool],
    choice: tuple[int | None, Path | None, bool],
    live: bool,
) -> "tuple[Recognizer, Detector | CTCDecoder]":
    """The model with its own decoder's settings, but for what is asked for.

    The changes are thresholds, and whether words within speech count. The choice is
    `choose_decoder`'s: a beam, a grammar, explanations.
    What is `live` comes in blocks of a step or two, and must not wait for a compilation later.
    """
    if err.is_terminal:
        err.line(f"loading {path} ...")
    from speechgru.backends.loader import open_backend
    from speechgru.decoding.ctc import CTCDecoder
    from speechgru.decoding.detector import Detector
    from speechgru.decoding.factory import choose_decoder
    from speechgru.recognition.recognizer import open_recognizer

    backend = open_backend(path)
    own, phrases = choose_decoder(backend.info, *choice)
    thresholds, within_speech = changes
    own = _with_thresholds(own, thresholds)
    if within_speech:
        own = _within_speech(own)
    recognizer = open_recognizer(backend, own, grammar=phrases)
    for steps in (1, 2) if live else ():
        backend.compile(steps)
    assert isinstance(recognizer.decoder, Detector | CTCDecoder)
    return recognizer, recognizer.decoder


def _near_misses(decoder: "Detector | CTCDecoder") -> "NearMisses":
    from speechgru.cli.views.explanation import NearMisses
    from speechgru.decoding.detector import Detector

    assert isinstance(decoder, Detector)
    return NearMisses(decoder)


def _with_thresholds(config: "DecoderConfig", texts: Sequence[str]) -> "DecoderConfig":
    """X is for every word, WORD=X for one."""
    general, single = config.threshold, dict(config.thresholds)
    parsed = [(word, _number(text, x)) for text in texts for word, x in [_split(text)]]
    for word, number in parsed:
        if not word:
            general, single = number, {}
    single |= {word: number for word, number in parsed if word}
    return config.model_copy(update={"threshold": general, "thresholds": single})


def _within_speech(config: "DecoderConfig") -> "DecoderConfig":
    from speechgru.decoding.detector import DetectorConfig

    if not isinstance(config, DetectorConfig):
        raise UsageError("--within-speech: tells a detector, and a CTC head has none")
    return config.model_copy(update={"most_unknown": 1.0})


def _split(text: str) -> tuple[str, str]:
    word, _, number = text.rpartition("=")
    return word, number


def _number(text: str, number: str) -> float:
    try:
        value = float(number)
    except ValueError:
        value = 0.0
    if not 0.0 < value <= 1.0:
        raise UsageError(f"--threshold {text}: a number above 0 and up to 1 is needed")
    return value


def _view(recognizer: "Recognizer", summary: "Summary", jsonl: bool, json: bool) -> View:
    """JSON if asked for, the panel on a terminal, else lines."""
    if json:
        return JsonView()
    if jsonl:
        return JsonLineView()
    if out.is_terminal and not out.console.is_dumb_terminal:
        from speechgru.cli.views.panel import PanelView

        return PanelView(recognizer, summary)
    return LineView()
