"""What lies in a directory of word folders: recordings, and files that are skipped, and why."""

import os
import unicodedata
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from speechgru.audio.files import SOUNDFILE_SUFFIXES, audio_suffixes
from speechgru.audio.pyav import DEMUXERS
from speechgru.errors import DataError
from speechgru.labels import SILENCE, UNKNOWN

BACKGROUND_NOISE = "_background_noise_"

#: Ends the names of files that describe a folder or a recording; they belong there.
DESCRIPTION = ".json"

NEEDS_PYAV = "{suffix} files need PyAV (pip install 'speechgru[av]') or conversion to WAV"
NOT_AUDIO = "not an audio file by its suffix"
ARCHIVE = "an archive; unpack it"
RAW = "samples without a header; convert them to WAV"
DEAD_LINK = "a link to what does not exist"
NO_FILE = "a pipe, socket or device"
HIDDEN = "hidden, as its name begins with a dot"
EMPTY = "a folder without recordings"
LINKED_FOLDER = "a link to a folder, which is not followed"
AROUND = "a link to the folder that it lies in, or to one around that"
NOT_UTF8 = "a name that is not UTF-8; rename it"
LOOSE = "a recording in no word's folder"
_NOT_RESERVED = ", ".join((BACKGROUND_NOISE, SILENCE, UNKNOWN))
RESERVED = f"in a folder whose name begins with _ and is none of {_NOT_RESERVED}"
RESERVED_WORD = f"the word begins with _ and is none of {_NOT_RESERVED}"
_RAW_SUFFIXES = frozenset([".raw", ".pcm", ".sw", ".ul", ".ulaw", ".al", ".alaw", ".s16", ".f32"])
_ARCHIVE_SUFFIXES = frozenset([".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"])


class Skipped(NamedTuple):
    """A file or folder that is not used: its path below the directory, and the reason."""

    name: str
    reason: str


class Listing(NamedTuple):
    """Folder -> its recordings, relative to the folder ("x.wav", "anna/x.wav"); what is skipped."""

    folders: dict[str, list[str]]
    skipped: list[Skipped]


def list_words(root: Path) -> Listing:
    """Every folder of `root` that holds recordings, with their names; all sorted.

    Of what is hidden only recordings are mentioned, and not those in hidden folders.

    Raises:
        DataError: a folder cannot be read.
    """
    listed: dict[str, list[str]] = {}
    skipped: list[Skipped] = []
    for entry in _entries(os.fspath(root)):
        if _is_folder(entry) and _is_around(entry, root):
            skipped.append(Skipped(entry.name, AROUND))
        elif _is_folder(entry) and not _is_utf8(entry):
            skipped.append(Skipped(entry.name, NOT_UTF8))
        elif _is_folder(entry):
            names: list[str] = []
            skipped_before = len(skipped)
            _walk(entry.path, "", f"{entry.name}/", names, skipped)
            if names:
                listed[entry.name] = sorted(names)
            elif len(skipped) == skipped_before:
                skipped.append(Skipped(entry.name, EMPTY))
        elif (reason := _reason(entry)) is None:
            skipped.append(Skipped(entry.name, LOOSE))
        elif reason != NOT_AUDIO:  # lists, licences and manifests belong here
            skipped.append(Skipped(entry.name, reason))
    return Listing(dict(sorted(listed.items())), sorted(skipped))


def list_recordings(root: Path) -> tuple[list[Path], list[Skipped]]:
    """Every recording under `root`, and what is skipped there, sorted.

    Raises:
        DataError: a folder cannot be read.
    """
    names: list[str] = []
    skipped: list[Skipped] = []
    _walk(os.fspath(root), "", "", names, skipped)
    return [root / name for name in sorted(names)], sorted(skipped)


def normalized(name: str) -> str:
    """A word's or a speaker's name, composed (NFC): some file systems decompose it."""
    return unicodedata.normalize("NFC", name)


def is_archive(name: str) -> bool:
    """Whether a file is an archive, by its suffix."""
    return _suffix(name) in _ARCHIVE_SUFFIXES


def without_suffix(name: str) -> str:
    """A recording's name without its suffix; without one that audio files have, all of it.

    >>> without_suffix("yes/anna_1.wav"), without_suffix("yes/anna.1")
    ('yes/anna_1', 'yes/anna.1')
    """
    suffix = _suffix(name)
    is_audio = suffix in SOUNDFILE_SUFFIXES or suffix in DEMUXERS
    return name[: -len(suffix)] if is_audio else name


def summarize_skipped(skipped: Iterable[Skipped]) -> list[str]:
    """A line for each reason: how many, why, and an example.

    >>> summarize_skipped([Skipped("a.txt", NOT_AUDIO), Skipped("b.txt", NOT_AUDIO)])
    ['2 skipped: not an audio file by its suffix (a.txt)']
    """
    by_reason: dict[str, list[str]] = defaultdict(list)
    for name, reason in skipped:
        by_reason[reason].append(name)
    most_first = sorted(by_reason.items(), key=lambda item: -len(item[1]))
    return [f"{len(names):,} skipped: {reason} ({names[0]})" for reason, names in most_first]


def _walk(folder: str, below: str, prefix: str, names: list[str], skipped: list[Skipped]) -> None:
    """Collect recordings, named from the folder on, and skipped entries, named with a prefix."""
    for entry in _entries(folder):
        name = below + entry.name
        if entry.is_dir(follow_symlinks=False):
            if _is_utf8(entry):
                _walk(entry.path, f"{name}/", prefix, names, skipped)
            else:
                skipped.append(Skipped(prefix + name, NOT_UTF8))
        elif (reason := _reason(entry)) is None:
            names.append(name)
        elif not (name.endswith(DESCRIPTION) or _is_about(prefix + name)):
            skipped.append(Skipped(prefix + name, reason))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What a folder holds; of what is hidden, recordings alone."""
    try:
        with os.scandir(folder) as entries:
            return [e for e in entries if not e.name.startswith(".") or _is_recording(e)]
    except OSError as error:
        raise DataError(f"{folder}: cannot be listed: {error.strerror or error}") from error


def _is_about(name: str) -> bool:
    """Whether a file says where noise is from, as that of Speech Commands does."""
    folder, _, file = name.partition("/")
    is_text = file.partition(".")[0].upper() in ("LICENCE", "LICENSE", "README")
    return folder == BACKGROUND_NOISE and is_text


def _is_utf8(entry: os.DirEntry[str]) -> bool:
    """Whether JSON and models' headers can hold a name; old archives have names in Latin-1."""
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_recording(entry: os.DirEntry[str]) -> bool:
    return _suffix(entry.name) in audio_suffixes() and _is_file(entry)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # links that lead to one another
        return False


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_around(entry: os.DirEntry[str], root: Path) -> bool:
    """Whether a folder is a link to `root`, or to a folder around it: its words are there twice."""
    return entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve())


def _suffix(name: str) -> str:
    # No Path here: a corpus has 100,000 of these.
    _, dot, suffix = name.rpartition(".")
    return (dot + suffix).lower()


def _reason(entry: os.DirEntry[str]) -> str | None:
    """Why an entry, which is no folder, is no recording; None if it is one."""
    if _is_folder(entry):
        return LINKED_FOLDER
    if entry.name.startswith("."):
        return HIDDEN
    suffix = _suffix(entry.name)
    if _is_file(entry):
        if suffix in audio_suffixes():
            return None if _is_utf8(entry) else NOT_UTF8
        if suffix in _RAW_SUFFIXES:
            return RAW
        if is_archive(entry.name):
            return ARCHIVE
        return NEEDS_PYAV.format(suffix=suffix) if suffix in DEMUXERS else NOT_AUDIO
    return DEAD_LINK if entry.is_symlink() else NO_FILE
