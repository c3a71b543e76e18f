"""PortAudio: loaded when it is needed, and restarted to find new devices."""

import sys
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
