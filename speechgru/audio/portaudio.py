"""PortAudio: loaded when it is needed, restarted to find new devices, and kept quiet."""

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from speechgru.errors import AudioDeviceError

_INSTALL = (
    "`apt-get install libportaudio2` (Debian, Ubuntu) or `dnf install portaudio`"
    if sys.platform == "linux"
    else "`pip install --force-reinstall sounddevice` brings it"
)


def load_portaudio() -> ModuleType:
    """The sounddevice module, whose import loads PortAudio.

    Raises:
        AudioDeviceError: PortAudio is not installed.
    """
    try:
        import sounddevice
    except OSError as error:
        raise AudioDeviceError(f"PortAudio is not installed ({error}): {_INSTALL}") from error
    return sounddevice


def restart_portaudio() -> None:
    """Make PortAudio look for devices again, which it does only at its start.

    No stream may be open.

    Raises:
        AudioDeviceError: it cannot be started.
    """
    module = load_portaudio()
    try:
        module._terminate()
        module._initialize()
    except module.PortAudioError as error:
        raise AudioDeviceError(f"PortAudio cannot be started: {error}") from error


@contextmanager
def quiet_native_code(keep_python: bool = False) -> Iterator[None]:
    """Discard what C libraries write to file descriptor 2: ALSA and PortAudio often do.

    With `keep_python`, sys.stderr goes on as before. Not for two threads at once, nor around code
    that starts programs which should use stderr.
    """
    try:
        saved = os.dup(2)
    except OSError:  # it is closed: nothing is shown anyway
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
    """Another file that writes to where stderr does; None where Python's is not descriptor 2."""
    try:
        if sys.stderr.fileno() != 2:
            return None
    except (AttributeError, OSError, io.UnsupportedOperation):
        return None
    sys.stderr.flush()
    return os.fdopen(os.dup(2), "w", buffering=1, encoding=sys.stderr.encoding, errors="replace")
