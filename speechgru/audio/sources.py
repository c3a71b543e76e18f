"""Sources of sound: a file, a pipe or a microphone, each as blocks of mono samples."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from speechgru.audio.files import blocks
from speechgru.audio.microphone import Microphone
from speechgru.audio.piped import ByteStream, PipedAudio, PipeFormat, Tell
from speechgru.audio.samples import Samples, StreamResampler

_FILE_BLOCK_S = 1.0
_REALTIME_BLOCK_S = 0.02


@dataclass(frozen=True)
class Block:
    """The next samples of a stream, (S,) float32 in [-1, 1] at the model's rate.

    `start_clock_s` is the time.monotonic() of the stream's first sample, estimated from the arrival
    of this block; None where samples come faster than real time, or this is unknown. `lost` samples
    before these never came.
    """

    samples: Samples
    start_clock_s: float | None = None
    lost: int = 0


def file_blocks(
    path: Path, rate: int, realtime: bool = False, channel: int | None = None
) -> Iterator[Block]:
    """A recording, as fast as it is read, or in real time; one channel, or the average of all.

    Args:
        channel: the one channel to use, from 1; None averages all of them.

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


def piped_blocks(
    stream: ByteStream,
    rate: int,
    given: PipeFormat,
    tell: Tell = lambda sentence: None,
    name: str = "stdin",
    channel: int | None = None,
) -> Iterator[Block]:
    """Raw PCM or a WAV file from a pipe; `tell` receives what seems to be wrong with it.

    Raises:
        DataError: another kind of file, a sample that is NaN or infinite, or no such channel.
        UsageError: options that contradict a WAV file's header.
    """
    resampler: StreamResampler | None = None
    resampled_rate = 0
    for frames, from_rate in PipedAudio(stream, given, tell, name, channel is None).frames():
        if resampler is None or from_rate != resampled_rate:  # at the start, and of another file
            if resampler is not None:
                yield Block(resampler.flush())
            resampler, resampled_rate = StreamResampler(from_rate, rate, name, channel), from_rate
        yield Block(resampler.push(frames))
    if resampler is not None:
        yield Block(resampler.flush())


def microphone_blocks(
    microphone: Microphone, rate: int, channel: int | None = None
) -> Iterator[Block]:
    """What a microphone captures, without end; time stands still while it is unplugged.

    Samples that were dropped take their time, as `Block.lost`.
    """
    from_rate = 0
    captured_s, start_clock_s = 0.0, None
    for captured in microphone.blocks():
        if captured.rate != from_rate:  # at the start, and where another device came back
            from_rate = captured.rate
            resampler = StreamResampler(from_rate, rate, microphone.device.name, channel)
        elif captured.lost:  # a filter across the gap would blur both of its sides
            yield Block(resampler.flush(), start_clock_s)
            resampler = StreamResampler(from_rate, rate, microphone.device.name, channel)
        captured_s += (captured.lost + len(captured.frames)) / from_rate
        start_clock_s = captured.at - captured_s
        lost = math.ceil(captured.lost * rate / from_rate)  # a gap is never none
        yield Block(resampler.push(captured.frames), start_clock_s, lost)
