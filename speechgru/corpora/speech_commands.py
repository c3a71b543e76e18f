"""Directories in the layout of Google Speech Commands (Warden, 2018, arXiv 1804.03209)."""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from speechgru.corpora.corpus import SPLITS, Clip, Corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.corpora.listing import Listing, normalized, without_suffix
from speechgru.corpora.speaker_names import speaker_in_name
from speechgru.corpora.speakers import Recording, hash_split, split_recordings
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

    `_silence_` is for testing, as in the official test archive, unless the lists name its files.
    The lists may name files with another suffix, and files that are missing; of the latter there is
    a note.

    Raises:
        DataError: a list cannot be read, or both lists name a file.
    """
    lists = _read_lists(root) if rule == "lists" else {}
    listed = {stem: split for split, lines in lists.items() for stem in lines}
    speakers: dict[str, str] = {}

    def split_of(folder: str, stem: str, speaker: str) -> str:
        if rule == "archive":
            return "testing"
        if rule == "lists" or folder == SILENCE:
            return listed.get(stem, "testing" if folder == SILENCE else "training")
        if speaker not in speakers:
            speakers[speaker] = hash_split(speaker)
        return speakers[speaker]

    clips, stems = [], set()
    for folder, names in listing.folders.items():
        word, base = normalized(folder), root / folder
        for name in names:
            speaker = "" if folder == SILENCE else speaker_in_name(name, word)
            stem = normalized(without_suffix(f"{folder}/{name}"))
            stems.add(stem)
            clips.append(Clip(base / name, word, speaker, split_of(folder, stem, speaker)))
    if rule != "archive" and not any(stem.startswith(f"{UNKNOWN}/") for stem in listed):
        clips = _with_unknown_split(root, clips)
    return Corpus(
        root,
        "speech-commands",
        tuple(clips),
        noises,
        rule,
        skipped=tuple(listing.skipped),
        notes=tuple(_not_found(lists, stems)),
    )


def _with_unknown_split(root: Path, clips: list[Clip]) -> list[Clip]:
    """The same clips, but those of `_unknown_` are where all of their speakers' words are.

    The others are split among themselves; all are for testing where all words are.
    """
    words = [clip for clip in clips if clip.word not in (SILENCE, UNKNOWN)]
    if not any(clip.split == "training" for clip in words):
        return [replace(c, split="testing") if c.word == UNKNOWN else c for c in clips]
    splits: dict[str, set[str]] = defaultdict(set)
    for clip in words:
        splits[clip.speaker].add(clip.split)
    known = {speaker: min(found) for speaker, found in splits.items() if len(found) == 1}
    known.pop("", None)
    others = [
        Recording(clip.path, name_in(root, clip.path), UNKNOWN)
        for clip in clips
        if clip.word == UNKNOWN and clip.speaker not in known
    ]
    found = {clip.path: clip.split for clip in split_recordings(others).clips} if others else {}

    def split_of(clip: Clip) -> str:
        if clip.word != UNKNOWN:
            return clip.split
        return found[clip.path] if clip.path in found else known[clip.speaker]

    return [replace(clip, split=split_of(clip)) for clip in clips]


def _read_lists(root: Path) -> dict[str, dict[str, str]]:
    """For each split its list: `word/name` without suffix -> its line."""
    lists: dict[str, dict[str, str]] = {}
    for split, name in LISTS.items():
        path = root / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: cannot be read as a list of files: {error}") from error
        lists[split] = {_stem(line): line for line in filter(None, map(str.strip, lines))}
    for stem, line in lists.get("testing", {}).items():
        if stem in lists.get("validation", {}):
            raise DataError(f"{root / LISTS['testing']}: {line} is also in {LISTS['validation']}")
    return lists


def _stem(line: str) -> str:
    """What a list's line names, as recordings are named here."""
    return normalized(without_suffix(line.replace("\\", "/").removeprefix("./")))


def _not_found(lists: dict[str, dict[str, str]], stems: Collection[str]) -> Iterator[str]:
    """A sentence for each list that names what is not there."""
    for split, lines in lists.items():
        if missing := [line for stem, line in lines.items() if stem not in stems]:
            yield (
                f"no recording matches {len(missing):,} of the {len(lines):,} names in "
                f"{LISTS[split]} (first: {missing[0]})"
            )
