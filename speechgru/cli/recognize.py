"""`speechgru recognize`: the word in each of some recordings."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from speechgru.cli.terminal import BUNDLED, err, out, print_json, tell_error
from speechgru.errors import DataError, UsageError
from speechgru.modelfile.bundled import bundled_model

if TYPE_CHECKING:
    from speechgru.recognition.clips import Recognition


def recognize(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] FILE...",
            help=f"A trained model's file {BUNDLED}, and recordings of a word.",
        ),
    ],
    top: Annotated[int, typer.Option(min=1, help="How many labels of each, best first.")] = 3,
    json: Annotated[bool, typer.Option("--json", help="One JSON array on stdout.")] = False,
) -> None:
    """Recognize one word in each file; exit 4 at the end if a file could not be used."""
    from speechgru.backends.loader import is_model, open_backend
    from speechgru.recognition.clips import recognize as recognize_file

    named = is_model(paths[0])
    files = paths[1:] if named else paths
    if not files:
        raise UsageError(
            f"{paths[0]}: is a model, and FILE is missing: recordings of a word are needed"
        )
    backend = open_backend(paths[0] if named else bundled_model())
    found: list[Recognition] = []
    failed = 0
    for file in files:
        try:
            recognition = recognize_file(backend, file, top)
        except DataError as error:
            failed += 1
            tell_error(str(error))
            continue
        _tell_excerpt(recognition)
        found.append(recognition)
        if not json:
            _print(recognition)
    if json:
        print_json([recognition.as_dict() for recognition in found])
    if failed:
        raise typer.Exit(DataError.exit_code)


def _print(recognition: "Recognition") -> None:
    others = ", ".join(f"{label} {score:.3f}" for label, score in recognition.top[1:])
    from rich.text import Text

    line = Text.assemble(
        f"{recognition.path}  ", (recognition.word, "bold"), f" {recognition.score:.3f}"
    )
    if others:
        line.append(f"  ({others})", "dim")
    out.print(line, soft_wrap=True)


def _tell_excerpt(recognition: "Recognition") -> None:
    if recognition.start_s is not None:
        told = (
            f"{recognition.path}: {recognition.duration_s:.2f} s long; only its loudest "
            f"{recognition.clip_s:.2f} s, from {recognition.start_s:.2f} s on, are scored"
        )
        err.line(told)
