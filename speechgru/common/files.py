"""Atomic writes: a file is complete or does not exist."""

import errno
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from speechgru.errors import SpeechGRUError

#: In the middle of the names that tempfile makes up.
_RANDOM_LETTERS = 8
_UMASK_LOCK = threading.Lock()


def in_home(text: str) -> str:
    """A text that begins with `~/` with the home directory instead; any other, as it is.

    Where there is no home directory, `~/` stays; pathlib would raise.
    """
    return os.path.expanduser(text) if text.startswith("~/") else text  # noqa: PTH111


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the errors of writing `path` into sentences; that it exists stays a FileExistsError.

    Raises:
        SpeechGRUError: it cannot be written, or its name cannot be spelled here.
    """
    try:
        yield
    except FileExistsError:
        raise
    except UnicodeEncodeError as error:
        if _can_be_spelled(path):  # it is of what is written
            raise
        raise SpeechGRUError(
            f"{path}: cannot be written: the locale has no such characters; set LC_ALL=C.UTF-8"
        ) from error
    except OSError as error:
        raise SpeechGRUError(f"{path}: cannot be written: {error.strerror or error}") from error


def _can_be_spelled(path: Path) -> bool:
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return False
    return True


def written_path(path: Path) -> Path:
    """What is written under a name: the file that a link leads to, or the path itself."""
    return path.resolve() if path.is_symlink() and path.is_file() else path


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success it is synced to disk and renamed to `path`.

    If the block raises, or the disk is full, `path` is unchanged and the temporary file is deleted.
    A file that is there already keeps its mode; of a link to one, that is written.

    Raises:
        SpeechGRUError: the folder cannot be written, or the disk is full.
    """
    path = written_path(Path(path))
    temporary: Path | None = None
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            start = path.name.encode(errors="replace")[:200].decode(errors="ignore")
            handle, name = tempfile.mkstemp(prefix=f".{start}.", suffix=".tmp", dir=path.parent)
            os.close(handle)
            temporary = Path(name)
            yield temporary
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            temporary.chmod(_mode(path))
            temporary.replace(path)
            _sync_folder(path.parent)
    except FileExistsError as error:
        raise SpeechGRUError(
            f"{path}: cannot be written: {error.filename} is not a directory"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write a whole file atomically; text is UTF-8."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def try_writing(folder: Path) -> None:
    """Check that files can be written into a folder, by writing one without a name.

    Raises:
        SpeechGRUError: they cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise SpeechGRUError(f"{folder}: cannot be written: {error.strerror or error}") from error


def why_no_file(path: Path) -> str:
    """What to say of a path that is no regular file."""
    if path.is_dir():
        return "is a directory"
    return "is a pipe or a device" if path.exists() else "no such file"


def remove_leftovers(path: Path) -> None:
    """Delete temporary files of processes that were killed while they wrote `path`.

    The caller must hold a lock without which nobody writes `path`.
    """
    path = written_path(path)
    for leftover in path.parent.glob(f".{escape(path.name)}.{'?' * _RANDOM_LETTERS}.tmp"):
        leftover.unlink(missing_ok=True)


def append_line(path: Path, line: str) -> int:
    """Add a line to a text file and sync it to disk; returns the file's new size in bytes.

    Raises:
        SpeechGRUError: the file cannot be written, or the disk is full; nothing is added.
    """
    content = line.encode() + b"\n"
    try:
        with path.open("ab", buffering=0) as file:
            size = file.tell()
            try:
                if file.write(content) < len(content):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                os.fsync(file.fileno())
            except OSError:
                file.truncate(size)
                raise
            return size + len(content)
    except OSError as error:
        raise SpeechGRUError(f"{path}: cannot be written: {error.strerror or error}") from error


def cut_unfinished_line(path: Path) -> None:
    """Remove the beginning of a line that a killed process left at the end of a text file.

    Raises:
        SpeechGRUError: the file cannot be read or written.
    """
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            os.truncate(path, content.rfind(b"\n") + 1)
    except FileNotFoundError:
        return  # nothing was written yet
    except OSError as error:
        raise SpeechGRUError(f"{path}: cannot be written: {error.strerror or error}") from error


def _mode(path: Path) -> int:
    """The permissions of a file, or those that a new one gets."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0o666 & ~_umask()


def _umask() -> int:
    with _UMASK_LOCK:  # it can only be read by setting it
        mask = os.umask(0)
        os.umask(mask)
    return mask


def _sync_folder(folder: Path) -> None:
    """Make a rename permanent. Windows cannot open folders, and does not need this."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
