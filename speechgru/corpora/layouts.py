"""Open any corpus: a Speech Commands directory, a folder of word folders, or a manifest."""

import os
from dataclasses import replace
from pathlib import Path

from speechgru.audio.files import audio_suffixes
from speechgru.corpora.corpus import Corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.fingerprint import name_in
from speechgru.corpora.folders import read_folders, read_split_folders, split_folders
from speechgru.corpora.listing import (
    BACKGROUND_NOISE,
    RESERVED,
    RESERVED_WORD,
    Skipped,
    is_archive,
    list_words,
    summarize_skipped,
)
from speechgru.corpora.manifest import read_manifest
from speechgru.corpora.speech_commands import read_speech_commands, split_rule
from speechgru.errors import DataError
from speechgru.labels import SILENCE, UNKNOWN

#: The name under which the corpus in the package is opened.
EMBEDDED = "embedded"


def open_corpus(path: str | os.PathLike[str]) -> Corpus:
    """List the recordings of a directory or manifest with their words, speakers and splits.

    "embedded" is the corpus in the package. Nothing is decoded. The clips are in the order of their
    paths (of the lines, in a manifest), the same on every system.

    Raises:
        DataError: no such directory, no corpus in it, or a line of a manifest that is wrong.
    """
    path = embedded_corpus() if os.fspath(path) == EMBEDDED else Path(path).expanduser()
    if path.is_dir():
        corpus = _read_directory(path)
    elif found := _no_manifest(path):
        raise DataError(f"{path}: {found}; a directory of word folders or a CSV manifest is needed")
    else:
        corpus = read_manifest(path)
    corpus = _without_reserved(corpus)
    if not corpus.words:
        raise DataError(
            f"{path}: found no recordings of words; expected DIR/word/file.wav"
            + "".join(f"; {line}" for line in summarize_skipped(corpus.skipped)[:3])
        )
    return corpus


def _no_manifest(path: Path) -> str:
    """What a path is instead of a manifest, as far as its name tells; else ""."""
    if not path.exists():
        return "not found"
    if not path.is_file():
        return "a pipe or a device"
    if is_archive(path.name):
        return "an archive, which must be unpacked first"
    return "a recording" if path.suffix.lower() in audio_suffixes() else ""


def _read_directory(root: Path) -> Corpus:
    listing = list_words(root)
    background = listing.folders.pop(BACKGROUND_NOISE, [])
    noises = tuple(root / BACKGROUND_NOISE / name for name in background)
    if rule := split_rule(root, listing):
        return read_speech_commands(root, listing, noises, rule)
    if split_folders(listing):
        return read_split_folders(root, listing, noises)
    return read_folders(root, listing, noises)


def _without_reserved(corpus: Corpus) -> Corpus:
    """The same corpus; clips of a word such as `_other_`, which no task uses, are skipped."""
    reserved = {
        clip.word
        for clip in corpus.clips
        if clip.word.startswith("_") and clip.word not in (SILENCE, UNKNOWN)
    }
    if not reserved:
        return corpus
    reason = RESERVED_WORD if corpus.layout == "manifest" else RESERVED
    skipped = [
        Skipped(name_in(corpus.root, clip.path), reason)
        for clip in corpus.clips
        if clip.word in reserved
    ]
    clips = tuple(clip for clip in corpus.clips if clip.word not in reserved)
    return replace(corpus, clips=clips, skipped=(*corpus.skipped, *skipped))
