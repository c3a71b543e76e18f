"""Any directory of word folders: `yes/anna_1.wav`, `yes/anna/1.wav`, `training/yes/anna_1.wav`."""

from pathlib import Path

from speechgru.common.word_folders import folder_word
from speechgru.corpora.corpus import Clip, Corpus
from speechgru.corpora.listing import (
    BACKGROUND_NOISE,
    Listing,
    Skipped,
    list_words,
    normalized,
)
from speechgru.corpora.speakers import Recording, split_recordings

#: Folders that are splits, if a directory has no others.
SPLIT_FOLDERS = {
    "training": "training",
    "train": "training",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "testing": "testing",
    "test": "testing",
}


def read_folders(root: Path, listing: Listing, noises: tuple[Path, ...]) -> Corpus:
    """The corpus of a directory with a folder for each word, split by speaker."""
    split = split_recordings(_recordings(root, listing))
    skipped = tuple(listing.skipped)
    return Corpus(root, "folders", split.clips, noises, split.rule, split.is_guess, skipped)


def split_folders(listing: Listing) -> list[str]:
    """The folders, if each that has recordings is a split with word folders; else none.

    A few recordings beside those word folders are loose.
    """
    for folder, names in listing.folders.items():
        in_words = sum("/" in name for name in names)
        if folder.lower() not in SPLIT_FOLDERS or 2 * in_words <= len(names):
            return []
    return list(listing.folders)


def read_split_folders(root: Path, whole: Listing, noises: tuple[Path, ...]) -> Corpus:
    """The corpus of a directory whose folders are splits, each with a folder for each word.

    `eval` is for validation; beside another folder that is, such as `dev`, it is for testing.
    """
    clips: list[Clip] = []
    skipped = [
        of_root for of_root in whole.skipped if of_root.name.partition("/")[0] not in whole.folders
    ]
    is_guess = False
    splits = {name: SPLIT_FOLDERS[name.lower()] for name in whole.folders}
    if list(splits.values()).count("validation") > 1:
        splits |= {name: "testing" for name in splits if name.lower() == "eval"}
    for name, split in splits.items():
        listing = list_words(root / name)
        background = listing.folders.pop(BACKGROUND_NOISE, [])
        noises += tuple(root / name / BACKGROUND_NOISE / file for file in background)
        found = split_recordings(_recordings(root / name, listing))
        clips += [Clip(clip.path, clip.word, clip.speaker, split) for clip in found.clips]
        skipped += [Skipped(f"{name}/{file}", reason) for file, reason in listing.skipped]
        is_guess |= found.is_guess
    clips.sort(key=lambda clip: clip.path)
    skipped.sort()
    return Corpus(root, "folders", tuple(clips), noises, "folders", is_guess, tuple(skipped))


def _recordings(root: Path, listing: Listing) -> list[Recording]:
    """The recordings of a listing; a folder inside a word's folder is a speaker."""
    recordings = []
    for folder, names in listing.folders.items():
        base = root / folder
        word = normalized(folder_word(base))
        for name in names:
            speaker = normalized(name.partition("/")[0]) if "/" in name else ""
            recordings.append(Recording(base / name, f"{folder}/{name}", word, speaker))
    return recordings
