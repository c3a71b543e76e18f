"""The folder of what was decoded or unpacked once: where it is, who writes, what is thrown away."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechgru.errors import SpeechGRUError

CACHE_VARIABLE = "SPEECHGRU_CACHE"
#: What was not opened for so long is thrown away: it can be made again.
UNUSED_DAYS = 30.0
#: Each entry has the one and may have the other.
LOCK, LAST_USED = "lock", "used"


def default_cache_dir() -> Path:
    """`$SPEECHGRU_CACHE`, or ~/.cache/speechgru."""
    return Path(os.environ.get(CACHE_VARIABLE) or "~/.cache/speechgru").expanduser()


@contextmanager
def locked(lock: Path) -> Iterator[None]:
    """Hold a lock file for this process; that of a process that dies is let go.

    Raises:
        SpeechGRUError: its folder cannot be written.
    """
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        file = lock.open("w")
    except OSError as error:
        raise SpeechGRUError(
            f"{lock.parent}: cannot be written: {error.strerror or error}; set {CACHE_VARIABLE} to "
            "a folder that can"
        ) from error
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def note_use(entry: Path) -> None:
    """Remember that an entry was opened now, where it can be written."""
    try:
        (entry / LAST_USED).touch()
    except OSError:
        return


def prune(entries: Iterator[Path], unused_days: float = UNUSED_DAYS) -> None:
    """Throw away entries that nobody opened for long; those that a process holds stay."""
    oldest = time.time() - 86_400 * unused_days
    for entry in entries:
        try:
            if _last_used(entry) < oldest and (entry / LOCK).is_file():
                with (entry / LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry)
        except OSError:  # held, gone, or not ours
            continue


def _last_used(entry: Path) -> float:
    """The youngest time of change among the entry and what lies in it."""
    return max(path.stat().st_mtime for path in (entry, *entry.iterdir()))
