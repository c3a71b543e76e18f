"""Lock files: one process at a time, on every platform."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speechgru.errors import SpeechGRUError


class LockedError(SpeechGRUError):
    """Another process holds the lock."""


#: What a file system without locks says, as on some networks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextmanager
def lock_file(path: Path, wait: bool = True, hint: str = "") -> Iterator[None]:
    """Hold the lock file `path`, which is created where it is missing, with its folder.

    The operating system releases the lock of a process that dies. The file holds nothing and may
    stay behind. A symbolic link in its place is refused: what it leads to may be another's. `hint`
    ends the message where the file cannot be written.

    Raises:
        LockedError: another process holds the lock, and `wait` is false.
        SpeechGRUError: the file cannot be created or written, or is a symbolic link.
    """
    from filelock import FileLock, Timeout  # for importing this file, 50 ms are too many

    if path.is_symlink():
        raise SpeechGRUError(f"{path}: is a symbolic link; a lock must be a file of its own")
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise LockedError(f"{path}: another process holds this lock") from None
    except (NotImplementedError, OSError) as error:  # the first is filelock's, for want of flock
        if not isinstance(error, OSError) or error.errno in _NO_LOCKS:
            where = f"{path.parent}: its file system has no locks"
            raise SpeechGRUError(f"{where}; use a folder elsewhere") from error
        reason = error.strerror or error
        raise SpeechGRUError(f"{path.parent}: cannot be written: {reason}{hint}") from error
    try:
        yield
    finally:
        lock.release()
