"""The cache of decoded recordings: its folder, its locks, checksums of its files, and pruning."""

import os
import time
import zlib
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import NamedTuple

from speechgru.common.locks import lock_file
from speechgru.errors import SpeechGRUError

CACHE_VARIABLE = "SPEECHGRU_CACHE"
#: Ends a message about a cache that cannot be written.
HINT = f"; {CACHE_VARIABLE} names another folder for the cache"
#: An entry that was not opened for this long is deleted: it can be made again.
UNUSED_DAYS = 30.0
#: Files of an entry. The index is written last: an entry without one is not complete.
INDEX, LOCK, LAST_USED = "index.json", "lock", "used"

_BLOCK_BYTES = 2**20


def default_cache_dir() -> Path:
    """`$SPEECHGRU_CACHE`, or ~/.cache/speechgru.

    Raises:
        SpeechGRUError: there is neither, as in a container whose user has no home.
    """
    try:
        return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/speechgru").expanduser()
    except RuntimeError as error:
        raise SpeechGRUError(f"this user has no home directory{HINT}") from error


def locked(entry: Path) -> AbstractContextManager[None]:
    """Hold the lock of an entry, whose folder is created where it is missing.

    Raises:
        SpeechGRUError: the folder cannot be written.
    """
    return lock_file(entry / LOCK, hint=HINT)


def note_use(entry: Path) -> None:
    """Remember that an entry was opened now, unless the cache is read-only."""
    with suppress(OSError):
        (entry / LAST_USED).touch()


def prune(entries: Iterable[Path], unused_days: float = UNUSED_DAYS) -> None:
    """Delete entries that were not opened for long, except those that a process holds."""
    oldest = time.time() - 86_400 * unused_days
    for entry in entries:
        # One that is held, gone meanwhile or read-only stays; the next pruning tries again.
        with suppress(OSError, SpeechGRUError):
            if _last_used(entry) < oldest and (entry / INDEX).is_file():
                _delete(entry)


class Seal(NamedTuple):
    """By what a finished file is known again: its checksum (CRC-32), size and times of change."""

    crc32: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path, crc32: int | None = None) -> "Seal":
        """The seal of a file; it is read, unless its checksum is known."""
        stat = file.stat()
        crc32 = file_crc32(file) if crc32 is None else crc32
        return cls(crc32, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)

    def fits(self, file: Path) -> bool:
        """Whether a file is the one that was sealed.

        Its content is read only where its times differ, as after a copy: no program writes to a
        file without changing them.
        """
        stat = file.stat()
        if stat.st_size != self.size_bytes:
            return False
        same_times = (stat.st_mtime_ns, stat.st_ctime_ns) == (self.mtime_ns, self.ctime_ns)
        return same_times or file_crc32(file) == self.crc32


def file_crc32(file: Path, start: int = 0) -> int:
    """The CRC-32 of a file's content, continued from that of other files."""
    total = start
    with file.open("rb") as opened:
        while block := opened.read(_BLOCK_BYTES):
            total = zlib.crc32(block, total)
    return total


def _delete(entry: Path) -> None:
    with lock_file(entry / LOCK, wait=False):
        for path in entry.iterdir():
            if path.name != LOCK:
                path.unlink()
    # Only now: Windows deletes no open file. Who waits for the lock creates the folder again.
    (entry / LOCK).unlink(missing_ok=True)
    entry.rmdir()


def _last_used(entry: Path) -> float:
    """The latest time of change among the entry and the files in it."""
    return max(path.stat().st_mtime for path in (entry, *entry.iterdir()))
