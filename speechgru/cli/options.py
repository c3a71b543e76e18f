"""Options and arguments that several verbs share, and checks of their values."""

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from speechgru.cli.completion import complete_model, complete_recipe, complete_split
from speechgru.common.files import try_writing, written_path
from speechgru.errors import SpeechGRUError, UsageError


def data_in(panel: str | None) -> Any:
    """--data under a heading of the help."""
    return typer.Option(
        metavar="DIR",
        help="Directory of recordings, CSV manifest, or 'embedded'.",
        rich_help_panel=panel,
    )


def protocol_in(panel: str | None) -> Any:
    """--protocol under a heading of the help."""
    return typer.Option(
        metavar="P",
        help="Labels and clips to score. [default: the model's own]",
        rich_help_panel=panel,
    )


def split_in(panel: str | None) -> Any:
    """--split under a heading of the help."""
    return typer.Option(
        metavar="SPLIT",
        help="training, validation or testing.",
        autocompletion=complete_split,
        rich_help_panel=panel,
    )


def snr_in(panel: str) -> Any:
    """--snr under a heading of the help."""
    return typer.Option(
        metavar="LOW:HIGH",
        help="Level of the words above the background, in dB.",
        rich_help_panel=panel,
    )


def state_in(panel: str | None) -> Any:
    """--state under a heading of the help."""
    return typer.Option(
        metavar="POLICY",
        help="When the state is reset: carry (never), silence or event. [default: the model's own]",
        rich_help_panel=panel,
    )


_MODEL = "A model file, a run directory, or the name of a bundled model."

Model = Annotated[str, typer.Argument(metavar="MODEL", help=_MODEL, autocompletion=complete_model)]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL",
        help=f"{_MODEL} [default: commands-12, which is bundled]",
        autocompletion=complete_model,
    ),
]
OptionalRecipe = Annotated[
    str | None,
    typer.Argument(
        metavar="RECIPE",
        help="Name of a recipe (see `speechgru recipes`) or a TOML file. "
        "[default: speech-commands-v2-12]",
        autocompletion=complete_recipe,
    ),
]
Directory = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="Directory of recordings, or a CSV manifest of them."),
]
Data = Annotated[str | None, data_in(None)]
Device = Annotated[str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:N or mps.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a setting, such as training.epochs=5; repeatable.",
    ),
]
Protocol = Annotated[str | None, protocol_in(None)]
Split = Annotated[str, split_in(None)]
Channel = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Use one channel of several, from 1. [default: their average]",
    ),
]
Beam = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=1000,
        help="Beam width of the CTC decoder. [default: the model's own]",
        rich_help_panel="Decoding",
    ),
]
GrammarFile = Annotated[
    Path | None,
    typer.Option(
        "--grammar",
        metavar="FILE",
        help="Phrases that the CTC decoder may report, one per line.",
        rich_help_panel="Decoding",
    ),
]


def check_split(name: str) -> str:
    """Check the name of a split.

    Raises:
        UsageError: there is no such split; suggests the one that was probably meant.
    """
    from speechgru.common.wording import did_you_mean
    from speechgru.corpora.corpus import SPLITS

    if name in SPLITS:
        return name
    raise UsageError(f"--split {name}: use one of {', '.join(SPLITS)}{did_you_mean(name, SPLITS)}")


def check_writable(name: str, path: Path, option: str) -> None:
    """Check that a model's file may be changed.

    Raises:
        UsageError: it is bundled with the package.
    """
    from speechgru.modelfile.bundled import is_bundled

    if is_bundled(path):
        raise UsageError(f"{option}: {name} is bundled and stays as it is; work on a copy")


def check_picture(picture: Path | None) -> None:
    """Check the name of a picture.

    Raises:
        UsageError: it does not end in .png.
        SpeechGRUError: it cannot be written.
    """
    if picture is not None and picture.suffix.lower() != ".png":
        raise UsageError(f"--picture {picture}: pictures are PNG; use a name that ends in .png")
    check_output(picture, "--picture")


def check_output(path: Path | None, option: str) -> None:
    """Check that a file can be written, before the work that produces it.

    Raises:
        UsageError: it is a directory.
        SpeechGRUError: its directory cannot be written, or is not a directory.
    """
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{option} {path}: is a directory; a file name is needed")
    path = written_path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise SpeechGRUError(f"{option} {path}: cannot be written: {folder} is not a directory")
    try:
        try_writing(folder)
    except SpeechGRUError as error:
        raise SpeechGRUError(f"{option}: {error}") from error
    if path.exists() and not os.access(path, os.W_OK):
        raise SpeechGRUError(f"{option} {path}: cannot be written: Permission denied")


def check_out_dir(path: Path, option: str = "--out") -> None:
    """Check that files can be written into a directory.

    Raises:
        SpeechGRUError: it cannot be written, or is a file.
    """
    if path.exists() and not path.is_dir():
        raise SpeechGRUError(f"{option} {path}: is not a directory")
    check_output(path / "file", option)


def number_range(text: str, option: str) -> tuple[float, float]:
    """Parse LOW:HIGH, or one number for both.

    Raises:
        UsageError: the text is neither.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high or low)
    except ValueError:
        raise UsageError(f"{option} {text}: two numbers LOW:HIGH are needed") from None
