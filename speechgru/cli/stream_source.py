"""The source of `listen`: its options are checked before the model loads; it is opened after."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from speechgru.errors import UsageError

if TYPE_CHECKING:
    from speechgru.audio.microphone import Microphone
    from speechgru.audio.piped import ByteStream, PipeFormat
    from speechgru.audio.sources import Block


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

        stream = cast("ByteStream", sys.stdin.buffer)
        return piped_blocks(stream, model_rate, self._pipe_format(), tell, channel=self.channel)

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
