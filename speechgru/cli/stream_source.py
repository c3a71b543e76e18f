"""The source of `listen`: its options are checked before the model loads; it is opened after."""

import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from speechgru.errors import DataError, UsageError

if TYPE_CHECKING:
    from io import BufferedReader

    from speechgru.audio.microphone import Microphone
    from speechgru.audio.piped import PipeFormat
    from speechgru.audio.sources import Block

#: A pipe that gives nothing for so long is mentioned.
_STALLED_S = 5.0


@dataclass(frozen=True)
class Sound:
    """An open source."""

    name: str
    blocks: "Iterator[Block]"
    microphone: "Microphone | None" = None

    @property
    def overruns(self) -> int:
        """How many times samples were dropped."""
        return self.microphone.overruns if self.microphone else 0


@dataclass(frozen=True)
class SourceOptions:
    """The options that choose a source; None where an option was not given."""

    input: str | None
    device: str | None
    realtime: bool
    rate: int | None
    format: str | None
    channels: int | None
    channel: int | None = None

    @property
    def is_microphone(self) -> bool:
        """Whether --input is not given."""
        return self.input is None

    @property
    def is_pipe(self) -> bool:
        """Whether the source is stdin: `--input -`."""
        return self.input == "-"

    def check(self) -> None:
        """Check the options and the source before a model is loaded.

        Raises:
            UsageError: options contradict each other, or stdin is closed.
            AudioDeviceError: there is no such microphone, no microphone at all, or no PortAudio.
            DataError: the file is missing, is not an audio file, or has no such channel.
        """
        where = "a microphone" if self.is_microphone else "stdin" if self.is_pipe else "a file"
        for name, given, fits in (
            ("--device", self.device is not None, self.is_microphone),
            ("--realtime", self.realtime, not self.is_microphone and not self.is_pipe),
            ("--rate", self.rate is not None, self.is_microphone or self.is_pipe),
            ("--format", self.format is not None, self.is_pipe),
            ("--channels", self.channels is not None, self.is_pipe),
        ):
            if given and not fits:
                raise UsageError(f"{name}: has no effect when the source is {where}")
        if self.is_microphone:
            from speechgru.audio.devices import find_device

            find_device(self.device)
        elif self.is_pipe:
            self._check_pipe()
        elif "://" in (self.input or ""):
            raise UsageError(
                f"--input {self.input}: is an address, not a file; "
                "`ffmpeg -i URL -f wav - | speechgru listen --input -`"
            )
        else:
            from speechgru.audio.files import probe
            from speechgru.audio.samples import check_has_channel

            check_has_channel(self.channel, probe(Path(self.input or "")).channels, self.input)

    @contextmanager
    def opened(self, model_rate: int, tell: Callable[[str], None]) -> "Iterator[Sound]":
        """Open the source at the model's rate; `tell` is called with messages about it.

        Raises:
            AudioDeviceError: the microphone is busy, or refuses the rate.
        """
        from speechgru.audio import sources

        if self.is_microphone:
            from speechgru.audio.microphone import Microphone

            with Microphone(self.device, self.rate, tell, channel=self.channel) as microphone:
                name = f"microphone {microphone.device.name}, {microphone.rate} Hz"
                blocks = sources.microphone_blocks(microphone, model_rate, self.channel)
                yield Sound(name, blocks, microphone)
        elif self.is_pipe:
            yield Sound("stdin", self._pipe_blocks(model_rate, tell))
        else:
            path = Path(self.input or "")
            blocks = sources.file_blocks(path, model_rate, self.realtime, self.channel)
            yield Sound(str(path), blocks)

    def _pipe_blocks(self, model_rate: int, tell: Callable[[str], None]) -> "Iterator[Block]":
        from speechgru.audio.sources import piped_blocks

        stream = _WatchedPipe(cast("BufferedReader", sys.stdin.buffer), tell)
        yield from piped_blocks(stream, model_rate, self._pipe_format(), tell, channel=self.channel)
        if stream.is_empty:
            raise DataError("stdin: has ended without any sound")

    def _pipe_format(self) -> "PipeFormat":
        from speechgru.audio.pcm import parse_format
        from speechgru.audio.piped import PipeFormat

        sample_format = None if self.format is None else parse_format(self.format)
        return PipeFormat(self.rate, sample_format, self.channels)

    def _check_pipe(self) -> None:
        from speechgru.audio.samples import check_channel

        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError(
                "--input -: stdin is closed, or a terminal; pipe a WAV file or PCM into it: "
                "`arecord -f S16_LE -r 16000 | speechgru listen --input -`"
            )
        check_channel(self.channel, self._pipe_format().channels)


class _WatchedPipe:
    """Bytes from stdin; the first time that none come for a while, this is said.

    Args:
        is_empty: whether nothing has come at all.
    """

    def __init__(self, stream: "BufferedReader", tell: Callable[[str], None]) -> None:
        self._stream = stream
        self._tell = tell
        self._watches = True
        self.is_empty = True

    def read1(self, size: int = -1, /) -> bytes:
        """Bytes that are available, at least one; none at the end."""
        stalls = self._watches and not self._comes_soon()
        if stalls:
            self._tell(f"stdin: has given nothing for {_STALLED_S:g} s; waiting")
        content = self._stream.read1(size)
        if stalls and content:
            self._watches = False
            self._tell("stdin: goes on")
        self.is_empty = self.is_empty and not content
        return content

    def _comes_soon(self) -> bool:
        try:
            ready, _, _ = select.select([self._stream], [], [], _STALLED_S)
        except (OSError, ValueError, TypeError):  # Windows waits for sockets alone
            self._watches = False
            return True
        return bool(ready)
