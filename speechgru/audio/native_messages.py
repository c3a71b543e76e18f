"""What libraries in C write to stderr: about sound cards, and about damaged recordings."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Lock

_STDERR = 2

_lock = Lock()
#: How many are within `quiet_native_code`, and a copy of stderr as it was before the first of them.
_inside = 0
_before: int | None = None


@contextmanager
def quiet_native_code(keep_python: bool = False) -> Iterator[None]:
    """Discard what C libraries write to file descriptor 2: ALSA, PortAudio and libmpg123 often do.

    Several threads may be within it. Not around code that starts programs which should use stderr.

    Args:
        keep_python: nothing is discarded where sys.stderr is that descriptor, too. On the command
            line it is not.
    """
    if keep_python and not _is_python_apart():
        yield
        return
    global _inside
    with _lock:
        _inside += 1
        if _inside == 1:
            _discard()
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0:
                _restore()


def _is_python_apart() -> bool:
    try:
        return sys.stderr.fileno() != _STDERR
    except (OSError, ValueError, AttributeError):
        return True


def _discard() -> None:
    global _before
    with suppress(OSError):  # it is closed: nothing is shown anyway
        before = os.dup(_STDERR)
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
        except OSError:
            os.close(before)
            raise
        os.dup2(nowhere, _STDERR)
        os.close(nowhere)
        _before = before


def _restore() -> None:
    global _before
    if _before is not None:
        os.dup2(_before, _STDERR)
        os.close(_before)
        _before = None
