"""Where sound comes from: a file, a pipe or a microphone, each as blocks of mono samples."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

from speechgru.audio.files import Samples, StreamResampler, blocks
from speechgru.audio.microphone import Microphone
from speechgru.audio.pcm import PcmDecoder, PcmFormat
from speechgru.errors import UsageError

_FILE_BLOCK_S = 1.0
_REALTIME_BLOCK_S = 0.02
_PIPE_BYTES = 65_536

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Block:
    """The next samples of a stream, (S,) float32 in [-1, 1] at the model's rate.

    `start_clock_s` is when, by time.monotonic(), the stream's first sample was there, as far as
    this block's arrival tells; None where sound comes faster than it was spoken, or nobody knows.
    """

    samples: Samples
    start_clock_s: float | None = None


class ByteStream(Protocol):
    """What is read from a pipe: as sys.stdin.buffer or io.BytesIO."""

    def read1(self, size: int = -1, /) -> bytes:
        """Bytes that are there, waiting for the first; none at the end."""
        ...


def file_blocks(path: Path, rate: int, realtime: bool = False) -> Iterator[Block]:
    """A recording: as fast as it is asked for, or as fast as it was spoken.

    Raises:
        DataError: missing, empty, truncated or no audio file, or samples that are not finite.
    """
    start_clock_s = time.monotonic() if realtime else None
    resampler: StreamResampler | None = None
    heard_s = 0.0
    for frames, from_rate in blocks(path, _REALTIME_BLOCK_S if realtime else _FILE_BLOCK_S):
        resampler = resampler or StreamResampler(from_rate, rate, name=str(path))
        heard_s += len(frames) / from_rate
        if start_clock_s is not None:
            time.sleep(max(0.0, start_clock_s + heard_s - time.monotonic()))
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
) -> Iterator[Block]:
    """Raw PCM from a pipe, as it comes; `tell` hears of bytes at its end that are no whole sample.

    Raises:
        DataError: a sample is NaN or infinite.
        UsageError: a rate or number of channels that makes no sense.
    """
    if from_rate < 1:
        raise UsageError(f"--rate {from_rate}: a positive number of hertz is needed")
    decoder = PcmDecoder(sample_format, channels)
    resampler = StreamResampler(from_rate, rate, name)
    while content := stream.read1(_PIPE_BYTES):
        yield Block(resampler.push(decoder.push(content)))
    yield Block(resampler.flush())
    if decoder.rest:
        tell(
            f"{name}: ends in the middle of a sample: {len(decoder.rest)} of "
            f"{decoder.frame_bytes} bytes; they are left out"
        )


def microphone_blocks(microphone: Microphone, rate: int) -> Iterator[Block]:
    """What a microphone hears, without end; time stands still while it is away."""
    from_rate = 0
    heard_s = 0.0
    for captured in microphone.blocks():
        if captured.rate != from_rate:  # at first, and where it came back as another device
            from_rate = captured.rate
            resampler = StreamResampler(from_rate, rate, name=microphone.device.name)
        samples = resampler.push(captured.frames)
        heard_s += len(captured.frames) / from_rate
        yield Block(samples, captured.at - heard_s)


def started(stream: Iterator[Block]) -> Iterator[Block]:
    """The same blocks, the first of them already read: what is wrong with the source shows now."""
    first = next(stream, None)
    return stream if first is None else chain((first,), stream)
