"""Directories in the layout of Google Speech Commands (Warden, 2018, arXiv 1804.03209)."""

import re
from pathlib import Path

from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.listing import Listing, label
from speechgru.corpora.speakers import hash_split, speaker_in_name
from speechgru.errors import DataError
from speechgru.labels import COMMANDS, SILENCE, UNKNOWN

LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_NAME = re.compile(r"[0-9a-f]{8}_nohash_\d+\.\w+")


def splitting(root: Path, listing: Listing) -> str | None:
    """How the directory is split, if it has the Speech Commands layout: a key of `SPLIT_RULES`.

    "lists" where it has them; "archive" for an official test archive, which has both `_silence_`
    and `_unknown_` beside the commands; "speaker" where all its names are hashes and the hash rule
    gives every split, or testing material only.
    """
    if any((root / name).is_file() for name in LISTS.values()):
        return "lists"
    words = {word for word in listing if not word.startswith("_")}
    if SILENCE in listing and UNKNOWN in listing and words <= set(COMMANDS):
        return "archive"
    names = [name for word in words for name in listing[word]]
    if names and all(_NAME.fullmatch(name) for name in names):
        splits = {hash_split(speaker) for speaker in {name[:8] for name in names}}
        if splits == set(SPLITS) or "training" not in splits:
            return "speaker"
    return None


def read_speech_commands(
    root: Path, listing: Listing, noises: tuple[Path, ...], split_by: str
) -> Corpus:
    """The corpus of a directory in this layout, split by the rule that `splitting` gave.

    `_silence_` and `_unknown_` hold clips of the official test archive: they are testing material.
    The lists may name files with another suffix; names whose file is not there do not count.

    Raises:
        DataError: a list cannot be read, or both lists name a file.
    """
    listed = _listed(root) if split_by == "lists" else {}
    speakers: dict[str, str] = {}

    def split_of(folder: str, name: str, speaker: str) -> str:
        if split_by == "archive" or folder in (SILENCE, UNKNOWN):
            return "testing"
        if split_by == "lists":
            return listed.get(f"{folder}/{name.rpartition('.')[0]}", "training")
        if speaker not in speakers:
            speakers[speaker] = hash_split(speaker)
        return speakers[speaker]

    clips = []
    for folder, names in listing.items():
        word, base = label(folder), root / folder
        for name in names:
            speaker = "" if folder == SILENCE else speaker_in_name(name, word)
            clips.append(Clip(base / name, word, speaker, split_of(folder, name, speaker)))
    return Corpus(root, "speech-commands", tuple(clips), noises, split_by)


def _listed(root: Path) -> dict[str, str]:
    """`word/name` without suffix -> split."""
    splits: dict[str, str] = {}
    for split, name in LISTS.items():
        path = root / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of files: {error}") from error
        for line in filter(None, map(str.strip, lines)):
            stem = line.replace("\\", "/").removeprefix("./").rpartition(".")[0]
            if splits.setdefault(stem, split) != split:
                raise DataError(f"{path}: {line} is in {LISTS[splits[stem]]} too; one split each")
    return splits
