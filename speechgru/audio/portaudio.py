"""What C libraries write on file descriptor 2, past Python: ALSA and PortAudio do so often."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_native_code(keep_python: bool = False) -> Iterator[None]:
    """Send file descriptor 2 nowhere; with `keep_python`, sys.stderr goes on as before.

    Not for two threads at once, nor around what starts programs that should use stderr.
    """
    try:
        saved = os.dup(2)
    except OSError:  # it is closed: nobody hears them anyway
        yield
        return
    own = _own_stderr() if keep_python else None
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    before = sys.stderr
    if own is not None:
        sys.stderr = own
    try:
        yield
    finally:
        if own is not None:
            sys.stderr = before
            own.close()
        os.dup2(saved, 2)
        os.close(saved)


def _own_stderr() -> io.TextIOWrapper | None:
    """A second way to where stderr goes; None where Python's is not descriptor 2 anyway."""
    try:
        if sys.stderr.fileno() != 2:
            return None
    except (AttributeError, OSError, io.UnsupportedOperation):
        return None
    sys.stderr.flush()
    return os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="replace")
