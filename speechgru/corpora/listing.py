"""What lies in a directory of word folders, listed fast and in one order everywhere."""

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from speechgru.audio.files import audio_suffixes
from speechgru.errors import DataError

BACKGROUND_NOISE = "_background_noise_"

#: Folder -> the names of the recordings in it, relative to the folder ("x.wav", "anna/x.wav").
Listing = dict[str, list[str]]


def list_words(root: Path) -> Listing:
    """Every folder of `root` that holds recordings, with their names; both sorted.

    Hidden files and folders, and files that are no audio by their suffix, do not count.

    Raises:
        DataError: a folder cannot be read.
    """
    listing = {folder: sorted(_names(os.fspath(root / folder))) for folder in folders(root)}
    return {folder: names for folder, names in listing.items() if names}


def folders(root: Path) -> list[str]:
    """The names of the folders in `root` that are not hidden, sorted."""
    return sorted(entry.name for entry in _entries(os.fspath(root)) if entry.is_dir())


def has_recordings(root: Path) -> bool:
    """Whether recordings lie in `root` itself, in no folder."""
    return any(_is_audio(entry) for entry in _entries(os.fspath(root)))


def list_recordings(root: Path) -> list[Path]:
    """Every recording under `root`, in its folders too, sorted; hidden ones do not count.

    Raises:
        DataError: a folder cannot be read.
    """
    return [root / name for name in sorted(_names(os.fspath(root)))]


def label(name: str) -> str:
    """A word or a speaker as a folder's name spells it, composed (NFC): some systems decompose."""
    return unicodedata.normalize("NFC", name)


def _names(folder: str, prefix: str = "") -> Iterator[str]:
    for entry in _entries(folder):
        if _is_audio(entry):
            yield prefix + entry.name
        elif entry.is_dir(follow_symlinks=False):
            yield from _names(entry.path, f"{prefix}{entry.name}/")


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from (entry for entry in entries if not entry.name.startswith("."))
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error


def _is_audio(entry: os.DirEntry[str]) -> bool:
    # No Path here: a corpus has 100,000 of these.
    _, dot, suffix = entry.name.rpartition(".")
    return (dot + suffix).lower() in audio_suffixes() and entry.is_file()
