"""Plays recordings on the default output device, where there is one."""

from pathlib import Path
from typing import Any

from speechgru.audio.files import read
from speechgru.audio.native_messages import quiet_native_code
from speechgru.audio.portaudio import load_portaudio
from speechgru.errors import AudioDeviceError

#: Players' devices take this rate, or the system resamples it.
_RATE = 48_000


class Player:
    """Plays one recording at a time, without waiting for its end.

    Raises:
        AudioDeviceError: PortAudio is not installed, or there is no device to play on.
    """

    def __init__(self) -> None:
        with quiet_native_code():
            self._module = load_portaudio()
            try:
                self._module.check_output_settings(samplerate=_RATE, channels=1)
            except (self._module.PortAudioError, ValueError) as error:
                raise AudioDeviceError(f"no device to play on: {error}") from error
        self._stream: Any = None

    def play(self, path: Path) -> None:
        """Start to play a recording; one that is still playing stops.

        Raises:
            DataError: it cannot be read.
            AudioDeviceError: the device is gone.
        """
        samples = read(path, _RATE)
        self.stop()
        with quiet_native_code():
            try:
                self._module.play(samples, _RATE)
                self._stream = self._module.get_stream()
            except self._module.PortAudioError as error:
                raise AudioDeviceError(f"cannot play: {error}") from error

    def stop(self) -> None:
        """Stop what is playing, without waiting for what the device holds of it."""
        stream, self._stream = self._stream, None
        if stream is not None:
            with quiet_native_code():
                stream.abort()
