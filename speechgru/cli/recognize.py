"""`speechgru recognize`: the word in each recording."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from speechgru.cli import options
from speechgru.cli.completion import complete_model
from speechgru.cli.help import examples
from speechgru.cli.inputs import report_channel, report_unheard
from speechgru.cli.progress import progress_lines
from speechgru.cli.terminal import err, out, plain, print_error, print_json
from speechgru.errors import DataError, UsageError
from speechgru.modelfile.bundled import bundled_model, find_model

if TYPE_CHECKING:
    from speechgru.recognition.clips import Recognition


@examples(
    "speechgru recognize go.wav stop.flac",
    "speechgru recognize runs/mine recordings/*.wav --json",
)
def recognize(
    paths: Annotated[
        list[str],
        typer.Argument(
            metavar="[MODEL] FILE...",
            help="Recordings, one word in each. Before them a model file, a run directory or the "
            "name of a bundled model; without one, commands-12.",
            show_default=False,
            autocompletion=complete_model,
        ),
    ],
    top: Annotated[
        int, typer.Option(min=1, metavar="N", help="Labels to show for each recording, best first.")
    ] = 3,
    channel: options.Channel = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON array on stdout.")] = False,
) -> None:
    """Recognize one word in each recording.

    The exit code is 4 if a file could not be read; the other files are recognized all the same.
    """
    from speechgru.backends.loader import is_model, open_backend
    from speechgru.recognition.clips import recognize as recognize_file

    first = find_model(paths[0])
    named = is_model(first)
    files = [Path(path) for path in (paths[1:] if named else paths)]
    if not files and first.is_dir():
        raise DataError(f"{first}: is a directory; recordings FILE... are needed")
    if not files:
        raise UsageError(f"{paths[0]} is a model; recordings FILE... are needed too")
    backend = open_backend(first if named else bundled_model())
    rows: list[dict[str, Any]] = []
    progress = progress_lines("recognizing") if json else None
    try:
        for number, file in enumerate(files):
            if progress is not None:
                progress(number, len(files))
            try:
                recognition = recognize_file(backend, file, top, channel)
            except DataError as error:
                rows.append({"file": str(file), "error": str(error)})
                print_error(str(error))
                continue
            if not number:
                report_channel(backend, channel, file)
            report_unheard(file, channel)
            rows.append(recognition.as_dict())
            _report_excerpt(recognition)
            if not json:
                _print(recognition)
    finally:
        if json:  # also after Ctrl-C
            print_json(rows)
    if any("error" in row for row in rows):
        raise typer.Exit(DataError.exit_code)


def _print(recognition: "Recognition") -> None:
    others = ", ".join(f"{label} {score:.3f}" for label, score in recognition.top[1:])
    line = plain(f"{recognition.path}  ")
    line.append_text(plain(recognition.word, "bold")).append(f" {recognition.score:.3f}")
    if others:
        line.append_text(plain(f"  ({others})", "dim"))
    out.text(line)


def _report_excerpt(recognition: "Recognition") -> None:
    if recognition.start_s is not None:
        err.line(
            f"{recognition.path}: {recognition.duration_s:.2f} s long; only "
            f"{recognition.clip_s:.2f} s of it, from {recognition.start_s:.2f} s on, are scored"
        )
