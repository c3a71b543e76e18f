"""Fingerprints of recordings: by names, sizes and times, without reading them."""

import os
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

from speechgru.corpora.corpus import Corpus
from speechgru.errors import DataError


def corpus_fingerprint(corpus: Corpus) -> str:
    """Identifies a corpus in the record of a training: 64 hexadecimal digits.

    Of the names relative to the root, sizes, words, speakers and splits; a copy elsewhere has the
    same fingerprint.

    Raises:
        DataError: a recording was deleted since the corpus was listed.
    """
    root = corpus.root
    # A recording may be several clips: with its own corpus, and with another's.
    rows = sorted(
        (name_in(root, clip.path), clip.word, clip.speaker, clip.split, _stat(clip.path).st_size)
        for clip in corpus.clips
    )
    rows += sorted((name_in(root, path), "", "", "", _stat(path).st_size) for path in corpus.noises)
    return digest(rows)


def recordings_fingerprint(root: Path, paths: Iterable[Path]) -> str:
    """Identifies recordings by their names and sizes, as `corpus_fingerprint` does.

    Raises:
        DataError: a recording was deleted.
    """
    return digest((name_in(root, path), _stat(path).st_size) for path in sorted(paths))


def files_fingerprint(root: Path, paths: Iterable[Path], *more: object) -> str:
    """Identifies the present state of files: names, sizes and times of change; and `more`.

    Of times also that of the entry itself, as files may be exchanged whose contents are as old.

    Raises:
        DataError: a file is missing.
    """
    stats = ((name_in(root, path), _stat(path)) for path in paths)
    rows = [(name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in stats]
    return digest([*rows, more])


def digest(rows: Iterable[tuple[object, ...]]) -> str:
    """SHA-256 of the rows' text, in their order."""
    total = sha256()
    for row in rows:
        total.update(repr(row).encode("utf-8", "surrogateescape") + b"\n")
    return total.hexdigest()


def name_in(root: Path, path: Path) -> str:
    """A path relative to `root`; one that lies elsewhere stays as it is."""
    # Path.relative_to takes seconds for 100,000 files.
    return os.fspath(path).removeprefix(os.path.join(root, ""))  # noqa: PTH118


def _stat(path: Path) -> os.stat_result:
    try:
        return os.stat(path)  # noqa: PTH116
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
