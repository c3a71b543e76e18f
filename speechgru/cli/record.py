"""`speechgru record`: guided recording of your own words."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.inputs import report_unheard
from speechgru.cli.interrupts import Interrupts
from speechgru.cli.progress import progress_bar
from speechgru.cli.terminal import err, out, print_json
from speechgru.common.wording import counted
from speechgru.errors import SpeechGRUError, UsageError

if TYPE_CHECKING:
    from speechgru.audio.samples import Samples
    from speechgru.audio.sources import Block
    from speechgru.recognition.guided_recording import GuidedRecording, Outcome

RATE = 16_000


@examples(
    "speechgru record lumos nox --speaker anna --takes 12 --room 60",
    "speechgru record lumos --input long-recording.wav",
)
def record(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORD...", help="Words or phrases to record.")
    ] = None,
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="Directory of the word folders.")
    ] = Path("my-words"),
    speaker: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the speaker; part of the file names. [default: the only one in DIR, or "
            "me]",
        ),
    ] = None,
    takes: Annotated[
        int,
        typer.Option(
            min=1, max=1000, metavar="N", help="Recordings of each word, earlier ones included."
        ),
    ] = 12,
    room: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            metavar="S",
            help="First record this many seconds of the room without speech.",
        ),
    ] = 0,
    talk: Annotated[
        float,
        typer.Option(
            min=0,
            max=3600,
            metavar="S",
            help="Then record this many seconds of talk without the words.",
        ),
    ] = 0,
    longest: Annotated[
        float,
        typer.Option(min=0.5, max=5.0, metavar="S", help="Longest word or phrase, in seconds."),
    ] = 4.0,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="ID|NAME", help="Microphone; see `speechgru devices`. [default: the system's]"
        ),
    ] = None,
    input_file: Annotated[
        Path | None,
        typer.Option(
            "--input", metavar="FILE", help="Cut a long recording of one word into takes instead."
        ),
    ] = None,
    channel: options.Channel = None,
    json: options.Json = False,
) -> None:
    """Record your own words, asking for each again until a take is usable.

    Where a word starts and ends is found automatically. Stop with q or Ctrl-C and continue another
    day: earlier takes of this speaker count. At the end the recordings are checked.
    """
    from speechgru.audio.files import probe
    from speechgru.audio.samples import check_has_channel
    from speechgru.backends.loader import speech_finder
    from speechgru.corpora.listing import normalized
    from speechgru.corpora.own_recordings import OwnRecordings, check_undivided, usual_speaker
    from speechgru.recognition.guided_recording import GuidedRecording

    words = [normalized(word) for word in words or []]
    speaker = normalized(speaker) if speaker is not None else usual_speaker(out_dir)
    if not words and not (room or talk):
        raise UsageError("WORD... is missing: name the words to record")
    if input_file is not None and (len(words) != 1 or room or talk or device is not None):
        raise UsageError("--input: goes with one WORD, and without --device, --room and --talk")
    recordings = OwnRecordings(out_dir, speaker, RATE)
    session = (
        GuidedRecording(words, takes, recordings, longest, input_file is not None, speech_finder())
        if words
        else None
    )
    check_undivided(out_dir, "--out")
    options.check_out_dir(out_dir)
    if input_file is not None:
        check_has_channel(channel, probe(input_file).channels, str(input_file))
        report_unheard(input_file, channel)
    result: dict[str, Any] = {"out": str(out_dir), "speaker": speaker, "kept": [], "refused": []}
    stopped = False
    asked = session is not None and session.prompt is not None
    if session is not None and not asked:
        err.line(f"{takes} takes of each by {speaker} are there already; --takes N asks for more")
    with Interrupts() as interrupts, _blocks(device, input_file, channel) as sound:
        blocks = interrupts.between(sound)
        try:
            if room:
                err.line(f"the room, for {room:g} s: be quiet ...")
                _stretch(blocks, room, recordings.add_room, result, "room")
            if talk:
                err.line(f"talk for {talk:g} s about anything, without the words ...")
                _stretch(blocks, talk, recordings.add_talk, result, "talk")
            if session is not None:
                stopped = _guide(session, blocks, result, input_file)
        except KeyboardInterrupt:
            stopped = True
        except SpeechGRUError:
            if json:  # what was recorded before
                print_json(result)
            raise
    if input_file is not None and asked and not (result["kept"] or result["refused"]):
        err.line(f"{input_file}: no speech was found in it")
    _finish(out_dir, result, json)
    if stopped:
        left = f" with {counted(session.remaining, 'take')} left" if session else ""
        go_on = "; run the same command again to go on" if session else ""
        err.line(f"interrupted{left}{go_on}")
        raise typer.Exit(130)


@contextmanager
def _blocks(
    device: str | None, input_file: Path | None, channel: int | None
) -> "Iterator[Iterator[Block]]":
    """Blocks of sound from a microphone or a file, at RATE."""
    from speechgru.audio import sources

    if input_file is not None:
        yield sources.file_blocks(input_file, RATE, channel=channel)
        return
    from speechgru.audio.microphone import Microphone
    from speechgru.audio.native_messages import quiet_native_code

    with (
        quiet_native_code(keep_python=True),
        Microphone(device, None, err.line, channel=channel) as microphone,
    ):
        err.line(f"microphone {microphone.device.name}, {microphone.rate} Hz")
        yield sources.microphone_blocks(microphone, RATE, channel)


def _stretch(
    blocks: "Iterator[Block]",
    seconds: float,
    keep: "Callable[[Samples], Path]",
    result: dict[str, Any],
    name: str,
) -> None:
    """Record this many seconds to one file; after q or Ctrl-C, what there is."""
    from speechgru.cli.keys import Keys
    from speechgru.recognition.guided_recording import StretchRecording

    recording = StretchRecording(seconds, RATE, keep)
    try:
        with Keys() as keys, progress_bar("recording") as progress:
            for block in blocks:
                enough = recording.push(block.samples)
                progress(int(recording.time_s), round(seconds))
                if enough:
                    break
                if keys.poll() == "q":
                    raise KeyboardInterrupt
    finally:
        if recording.time_s:
            path = recording.save()
            result[name] = str(path)
            err.line(f"kept {path}: {recording.time_s:.0f} s")


def _guide(
    session: "GuidedRecording",
    blocks: "Iterator[Block]",
    result: dict[str, Any],
    input_file: Path | None,
) -> bool:
    """Ask for the words until all takes are recorded; returns whether the user stopped before."""
    from speechgru.cli.keys import Keys
    from speechgru.cli.views.recorder import RecorderView

    with Keys() as keys, RecorderView(err, session) as view:

        def note(outcomes: "list[Outcome]") -> None:
            for outcome in outcomes:
                view.report(outcome)
                entry: dict[str, Any] = {"word": outcome.prompt.word}
                if outcome.take is not None:
                    entry |= {"peak_db": outcome.take.peak_db, "db_over": outcome.take.over_room_db}
                if outcome.path is not None:
                    heard = {} if outcome.speech is None else {"speech": round(outcome.speech, 2)}
                    result["kept"].append(entry | heard | {"file": str(outcome.path)})
                else:
                    result["refused"].append(entry | {"fault": outcome.fault})

        view.update()
        for block in blocks:
            note(session.push(block.samples, block.lost))
            key = keys.poll()
            if key == "u" and (undone := session.undo()) is not None:
                result["kept"] = [k for k in result["kept"] if k["file"] != str(undone)]
                err.line(f"undone: {undone}")
            elif key == "s":
                session.skip()
            if key == "q":
                return True
            if session.prompt is None:
                _report_rest(blocks, session, input_file)
                return False
            view.update()
        note(session.flush())
    return input_file is None and session.prompt is not None


def _report_rest(
    blocks: "Iterator[Block]", session: "GuidedRecording", input_file: Path | None
) -> None:
    """Say how much of a recording is left once there are enough takes."""
    if input_file is None:
        return
    rest_s = sum(len(block.samples) for block in blocks) / RATE
    if rest_s >= 1:
        err.line(
            f"{input_file}: its last {rest_s:.0f} s were not cut, as --takes is {session.takes}"
        )


def _finish(out_dir: Path, result: dict[str, Any], json: bool) -> None:
    """Run `data check` on the recordings."""
    from speechgru.cli.checking import checked
    from speechgru.corpora import open_corpus
    from speechgru.corpora.listing import list_words

    # Folders that were made for later, and hidden ones, are no words yet.
    has_words = any(not name.startswith("_") for name in list_words(out_dir).folders)
    report = checked(open_corpus(out_dir)) if has_words else None
    if json:
        print_json(result | ({"check": report.as_dict()} if report else {}))
        return
    out.line(f"{len(result['kept'])} kept, {len(result['refused'])} refused, in {out_dir}")
    if report is not None:
        from speechgru.cli.tables.corpus import print_report

        print_report(report)
        if not report.errors:
            out.line(f"next: speechgru train my-words --data {quote(str(out_dir))}")
