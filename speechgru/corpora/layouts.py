"""Open any corpus: a Speech Commands directory, a folder of word folders, or a manifest."""

import os
from pathlib import Path

from speechgru.corpora.corpus import Corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.corpora.folders import read_folders, read_split_folders, split_folders
from speechgru.corpora.listing import BACKGROUND_NOISE, list_words
from speechgru.corpora.manifest import read_manifest
from speechgru.corpora.speech_commands import read_speech_commands, splitting
from speechgru.errors import DataError

#: The name under which the corpus in the package is opened.
EMBEDDED = "embedded"


def open_corpus(path: str | os.PathLike[str]) -> Corpus:
    """List the recordings of a directory or manifest with their words, speakers and splits.

    "embedded" is the corpus in the package. Nothing is decoded. The clips are in the order of their
    paths (of the lines, in a manifest), the same on every system.

    Raises:
        DataError: no such directory, nothing in it that is a corpus, or a line of a manifest that
            is wrong.
    """
    path = embedded_corpus() if os.fspath(path) == EMBEDDED else Path(path).expanduser()
    if path.is_dir():
        corpus = _read_directory(path)
    elif path.exists():
        corpus = read_manifest(path)
    else:
        raise DataError(
            f"{path}: not found; a directory of word folders or a CSV manifest is needed"
        )
    if not corpus.words:
        raise DataError(f"{path}: no folder with recordings of a word; needed is DIR/word/file.wav")
    return corpus


def _read_directory(root: Path) -> Corpus:
    listing = list_words(root)
    noises = tuple(root / BACKGROUND_NOISE / name for name in listing.pop(BACKGROUND_NOISE, []))
    if split_by := splitting(root, listing):
        return read_speech_commands(root, listing, noises, split_by)
    if splits := split_folders(root):
        return read_split_folders(root, splits, noises)
    return read_folders(root, listing, noises)
