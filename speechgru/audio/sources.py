"""Sources of sound: a file, a pipe or a microphone, each as blocks of mono samples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from speechgru.audio.files import blocks
from speechgru.audio.microphone import Microphone
from speechgru.audio.pcm import PcmDecoder, PcmFormat
from speechgru.audio.samples import Samples, StreamResampler, check_channel, check_rate

_FILE_BLOCK_S = 1.0
_REALTIME_BLOCK_S = 0.02
_PIPE_BYTES = 65_536

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Block:
    """The next samples of a stream, (S,) float32 in [-1, 1] at the model's rate.

    `start_clock_s` is the time.monotonic() of the stream's first sample, estimated from the arrival
    of this block; None where samples come faster than real time, or this is unknown.
    """

    samples: Samples
    start_clock_s: float | None = None


class ByteStream(Protocol):
    """Bytes from a pipe, such as sys.stdin.buffer or io.BytesIO."""

    def read1(self, size: int = -1, /) -> bytes:
        """Bytes that are available, at least one; none at the end."""
        ...


def file_blocks(
    path: Path, rate: int, realtime: bool = False, channel: int | None = None
) -> Iterator[Block]:
    """A recording, as fast as it is read, or in real time; one channel, or the average of all.

    Raises:
        DataError: missing, empty, truncated or not an audio file; samples that are not finite; no
            such channel.
    """
    start_clock_s = time.monotonic() if realtime else None
    resampler: StreamResampler | None = None
    read_s = 0.0
    for frames, from_rate in blocks(path, _REALTIME_BLOCK_S if realtime else _FILE_BLOCK_S):
        resampler = resampler or StreamResampler(from_rate, rate, str(path), channel)
        read_s += len(frames) / from_rate
        if start_clock_s is not None:
            time.sleep(max(0.0, start_clock_s + read_s - time.monotonic()))
        yield Block(resampler.push(frames), start_clock_s)
    if resampler is not None:
        yield Block(resampler.flush(), start_clock_s)


def pcm_blocks(
    stream: ByteStream,
    rate: int,
    from_rate: int,
    sample_format: PcmFormat = "s16le",
    channels: int = 1,
    tell: Tell = lambda sentence: None,
    name: str = "stdin",
    channel: int | None = None,
) -> Iterator[Block]:
    """Raw PCM from a pipe; `tell` is called where it ends within a sample.

    Raises:
        DataError: a sample is NaN or infinite.
        UsageError: an impossible rate, number of channels or channel.
    """
    check_rate(from_rate)
    check_channel(channel, channels)
    decoder = PcmDecoder(sample_format, channels)
    resampler = StreamResampler(from_rate, rate, name, channel)
    while content := stream.read1(_PIPE_BYTES):
        yield Block(resampler.push(decoder.push(content)))
    yield Block(resampler.flush())
    if decoder.rest:
        tell(
            f"{name}: ends within a sample; its {len(decoder.rest)} of {decoder.frame_bytes} "
            "bytes are skipped"
        )


def microphone_blocks(
    microphone: Microphone, rate: int, channel: int | None = None
) -> Iterator[Block]:
    """What a microphone captures, without end; time stands still while it is unplugged."""
    from_rate = 0
    captured_s = 0.0
    for captured in microphone.blocks():
        if captured.rate != from_rate:  # at the start, and where another device came back
            from_rate = captured.rate
            resampler = StreamResampler(from_rate, rate, microphone.device.name, channel)
        samples = resampler.push(captured.frames)
        captured_s += len(captured.frames) / from_rate
        yield Block(samples, captured.at - captured_s)
