"""Directories in the layout of Google Speech Commands (Warden, 2018, arXiv 1804.03209)."""

import re
from pathlib import Path

from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.listing import Listing, normalized
from speechgru.corpora.speakers import hash_split, speaker_in_name
from speechgru.errors import DataError
from speechgru.labels import COMMANDS, SILENCE, UNKNOWN

LISTS = {"validation": "validation_list.txt", "testing": "testing_list.txt"}
_NAME = re.compile(r"[0-9a-f]{8}_nohash_\d+\.\w+")
_ARCHIVE_NAME = re.compile(r"[0-9a-f]+(_nohash_\d+)?\.\w+")


def split_rule(root: Path, listing: Listing) -> str | None:
    """How a directory in the Speech Commands layout is split, a key of `SPLIT_RULES`; else None.

    "lists" if it has them; "archive" for an official test archive, which has `_silence_`,
    `_unknown_` and the ten commands, under names that tell nothing but hashes or numbers; "speaker"
    if all names are hashes, and the hash rule gives every split, or only testing.
    """
    if any((root / name).is_file() for name in LISTS.values()):
        return "lists"
    words = {word for word in listing.folders if not word.startswith("_")}
    names = [name for word in words for name in listing.folders[word]]
    has_all = {SILENCE, UNKNOWN} <= listing.folders.keys() and words == set(COMMANDS)
    if has_all and all(_ARCHIVE_NAME.fullmatch(name) for name in names):
        return "archive"
    if names and all(_NAME.fullmatch(name) for name in names):
        splits = {hash_split(speaker) for speaker in {name[:8] for name in names}}
        if splits == set(SPLITS) or "training" not in splits:
            return "speaker"
    return None


def read_speech_commands(
    root: Path, listing: Listing, noises: tuple[Path, ...], rule: str
) -> Corpus:
    """The corpus of a directory in this layout, split by the rule that `split_rule` returned.

    `_silence_` and `_unknown_` hold clips of the official test archive, for testing only. The lists
    may name files with another suffix, and files that are missing.

    Raises:
        DataError: a list cannot be read, or both lists name a file.
    """
    listed = _read_lists(root) if rule == "lists" else {}
    speakers: dict[str, str] = {}

    def split_of(folder: str, name: str, speaker: str) -> str:
        if rule == "archive" or folder in (SILENCE, UNKNOWN):
            return "testing"
        if rule == "lists":
            return listed.get(f"{folder}/{name.rpartition('.')[0]}", "training")
        if speaker not in speakers:
            speakers[speaker] = hash_split(speaker)
        return speakers[speaker]

    clips = []
    for folder, names in listing.folders.items():
        word, base = normalized(folder), root / folder
        for name in names:
            speaker = "" if folder == SILENCE else speaker_in_name(name, word)
            clips.append(Clip(base / name, word, speaker, split_of(folder, name, speaker)))
    skipped = tuple(listing.skipped)
    return Corpus(root, "speech-commands", tuple(clips), noises, rule, False, skipped)


def _read_lists(root: Path) -> dict[str, str]:
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
                raise DataError(f"{path}: {line} is also in {LISTS[splits[stem]]}")
    return splits
