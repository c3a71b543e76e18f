"""Any directory of word folders: `yes/anna_1.wav`, `yes/anna/1.wav`, `training/yes/anna_1.wav`."""

from pathlib import Path

from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.listing import (
    BACKGROUND_NOISE,
    Listing,
    folders,
    has_recordings,
    label,
    list_words,
)
from speechgru.corpora.speakers import Found, split_found

#: Folders that are splits, where a directory has no others.
SPLIT_FOLDERS = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "testing": "testing",
    "test": "testing",
}


def read_folders(root: Path, listing: Listing, noises: tuple[Path, ...]) -> Corpus:
    """The corpus of a directory with a folder a word, split by speaker."""
    clips, split_by = split_found(found_in(root, listing))
    return Corpus(root, "folders", clips, noises, split_by)


def split_folders(root: Path) -> list[str]:
    """The folders of `root`, if each of them is a split that holds word folders; else none."""
    names = [name for name in folders(root) if name != BACKGROUND_NOISE]
    if len(names) < 2 or any(name.lower() not in SPLIT_FOLDERS for name in names):
        return []
    return [] if any(has_recordings(root / name) for name in names) else names


def read_split_folders(root: Path, names: list[str], noises: tuple[Path, ...]) -> Corpus:
    """The corpus of a directory whose folders are splits, each with a folder a word."""
    clips: list[Clip] = []
    for name in names:
        listing = list_words(root / name)
        noises += tuple(
            root / name / BACKGROUND_NOISE / n for n in listing.pop(BACKGROUND_NOISE, [])
        )
        split = SPLIT_FOLDERS[name.lower()]
        spoken, _ = split_found(found_in(root / name, listing))
        clips += [Clip(clip.path, clip.word, clip.speaker, split) for clip in spoken]
    return Corpus(root, "folders", tuple(sorted(clips, key=lambda c: c.path)), noises, "folders")


def found_in(root: Path, listing: Listing) -> list[Found]:
    """The recordings of a listing; a folder inside a word's folder is a speaker."""
    found = []
    for folder, names in listing.items():
        word, base = label(folder), root / folder
        for name in names:
            speaker = label(name.partition("/")[0]) if "/" in name else ""
            found.append(Found(base / name, f"{folder}/{name}", word, speaker))
    return found
