"""`speechgru review`: sorts the clips saved by `listen --save-dir` into the recordings."""

import json as json_module
import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.help import examples
from speechgru.cli.terminal import err, out, print_json
from speechgru.errors import AudioDeviceError, InterruptedRunError, SpeechGRUError, UsageError

if TYPE_CHECKING:
    from speechgru.audio.player import Player
    from speechgru.corpora.review import Filed, Review


@examples(
    "speechgru review caught --data my-words --speaker anna",
    "echo speech | speechgru review caught --data my-words --json",
)
def review(
    caught: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="What `listen --save-dir DIR` saved."),
    ],
    data: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Directory of word folders to file the clips into."),
    ],
    speaker: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Name of the speaker; the key s changes it. [default: the only one in the data, "
            "or me]",
        ),
    ] = None,
    play: Annotated[
        bool,
        typer.Option("--play/--no-play", help="Play each clip, if there is an output device."),
    ] = True,
    json: options.Json = False,
) -> None:
    """Sort caught clips with one key each: the word, other speech, noise.

    Clips are copied into the word's folder, _unknown_ or _background_noise_; train again with
    --from. Stop with q or Ctrl-C and continue another day. Without a terminal, each line on stdin
    is a decision: right, speech, noise, discard, undo, or an object such as
    {"file": "go/1.wav", "decision": "word", "word": "stop", "speaker": "ben"}.
    """
    from speechgru.corpora.own_recordings import usual_speaker
    from speechgru.corpora.review import Review, check_apart

    check_apart(caught, data, "DIR")
    review = Review(caught, data, speaker if speaker is not None else usual_speaker(data))
    for clip in review.pending:
        if clip.problem:
            err.line(clip.problem)
    filed: list[Filed] = []
    stopped = False
    refused: SpeechGRUError | None = None
    with review.lock():
        try:
            if sys.stdin is not None and sys.stdin.isatty():
                _by_keys(review, filed, play)
            else:
                _by_lines(review, filed)
        except KeyboardInterrupt:
            stopped = True
        except SpeechGRUError as error:
            refused = error
    left = review.pending
    if json:
        listed = [clip.as_dict() for clip in left]
        result = {"filed": [f.as_dict() for f in filed], "decided": review.counts, "left": listed}
        print_json(result)
    else:
        _print_result(review, filed, data)
    if refused is not None:
        raise refused
    if stopped:
        raise typer.Exit(InterruptedRunError.exit_code)


def _by_keys(review: "Review", filed: "list[Filed]", play: bool) -> None:
    from speechgru.audio.native_messages import quiet_native_code
    from speechgru.cli.views.reviewer import ReviewerView

    with quiet_native_code(keep_python=True):  # it writes while a clip plays, too
        view = ReviewerView(err, review, _player() if play else None)
        while (pending := review.pending) and (step := view.ask(pending[0])) != "quit":
            if step == "undo":
                _undo(review, filed)
            elif step is not None:
                filed.append(step)
                view.show(step)


def _player() -> "Player | None":
    from speechgru.audio.player import Player

    try:
        return Player()
    except AudioDeviceError as error:
        err.line(f"clips are not played: {error}; their levels are shown")
        return None


def _by_lines(review: "Review", filed: "list[Filed]") -> None:
    """Read decisions from stdin; one without a file is for the first undecided clip."""
    for number, wish in enumerate(_read_lines(), 1):
        where = f"stdin, line {number}"
        decision = wish.get("decision")
        try:
            if decision == "undo":
                if len(wish) > 1:
                    raise UsageError("undo: takes the last decision back, and has no other fields")
                _undo(review, filed)
                continue
            filed.append(review.decide_as(wish))
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
        err.line(_sentence(filed[-1]))


def _read_lines() -> Iterator[dict[str, Any]]:
    lines = iter(sys.stdin or ())
    while True:
        try:
            text = next(lines).lstrip("\ufeff").strip()
        except StopIteration:
            return
        except UnicodeDecodeError as error:
            raise UsageError("stdin: is not UTF-8") from error
        if not text:
            continue
        try:
            wish = json_module.loads(text) if text.startswith("{") else {"decision": text}
        except (ValueError, RecursionError) as error:
            raise UsageError(f"stdin: {text!r:.60} is not JSON") from error
        yield wish


def _undo(review: "Review", filed: "list[Filed]") -> None:
    undone = review.undo()
    if undone is None:
        err.line("nothing to undo")
        return
    if undone in filed:
        filed.remove(undone)
    err.line(f"undone: {undone.clip.name}")
    if undone.note:
        err.line(undone.note)


def _sentence(filed: "Filed") -> str:
    return f"{filed.clip.name}: {filed.path or 'thrown away; the caught clip stays'}"


def _print_result(review: "Review", filed: "list[Filed]", data: Path) -> None:
    counts = ", ".join(f"{count} {name}" for name, count in review.counts.items() if count)
    out.line(f"{len(filed)} decided now; in all: {counts or 'none'}; {len(review.pending)} left")
    if any(f.path for f in filed) and not review.pending:
        model = next((f.clip.model for f in filed if f.clip.model), "MODEL")
        out.line(f"next: speechgru train my-words --data {quote(str(data))} --from {quote(model)}")
