"""MP3 files that do not say how long they are, which libsndfile guesses.

Encoders that write into a stream cannot go back to their first frame to store the number of frames
in it. libsndfile then divides the size of the file, tags included, by that of its first frame: it
stops in the midst of some recordings, and misses samples that others never had.
"""

import io
import os
from collections.abc import Iterator
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO

_HEADER_BYTES = 4
#: Kilobits a second by the index in a header of layer III, of MPEG 1 and of MPEG 2 and 2.5.
_BITRATES_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0)
_BITRATES_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0)
#: Hertz by the version's two bits: MPEG 2.5, none, 2 and 1.
_RATES = ((11_025, 12_000, 8_000), (), (22_050, 24_000, 16_000), (44_100, 48_000, 32_000))
_MPEG_1 = 3
_RATE_BITS = 0x0C
#: Index of a bit rate whose frames have room for a count at any rate.
_COUNT_BITRATE = 9
_SEARCHED_BYTES = 65_536


def open_uncounted_mp3(path: Path) -> IO[bytes] | None:
    """An MP3 whose first frame has no count of frames, as a file that has one.

    None for all other files.
    """
    with path.open("rb") as file:
        if path.suffix.lower() != ".mp3" and file.read(1) not in (b"I", b"\xff"):
            return None
        with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
            frames = _frames(content, _tag_bytes(content[:10]))
            first = next(frames, None)
            if first is None:
                return None
            header = content[first : first + _HEADER_BYTES]
            if _has_count(content[first + _HEADER_BYTES : first + 48], _side_bytes(header)):
                return None
            count = 1 + sum(1 for _ in frames)
    return io.BufferedReader(_Prefixed(path, _counting_frame(header, count), first))


class _Prefixed(io.RawIOBase):
    """Some bytes, and then a file from a position on."""

    def __init__(self, path: Path, prefix: bytes, start: int) -> None:
        self._file, self._prefix = path.open("rb"), prefix
        self._shift, self._position = len(prefix) - start, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_CUR:
            offset += self._position
        elif whence == os.SEEK_END:
            offset += self._file.seek(0, os.SEEK_END) + self._shift
        self._position = max(0, offset)
        return self._position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        content = self._prefix[self._position : self._position + len(buffer)]
        if not content:
            self._file.seek(self._position - self._shift)
            content = self._file.read(len(buffer))
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _tag_bytes(start: bytes) -> int:
    """The size of the ID3v2 tag at a file's start, which holds titles and pictures."""
    if len(start) < 10 or not start.startswith(b"ID3"):
        return 0
    return 10 + sum(byte << shift for byte, shift in zip(start[6:], (21, 14, 7, 0), strict=True))


def _frames(content: mmap, start: int) -> Iterator[int]:
    """Where the whole frames begin; other bytes before and between them are passed over."""
    first, is_in_step, at = b"", False, start
    while at >= 0 and (first or at <= start + _SEARCHED_BYTES):
        header = content[at : at + _HEADER_BYTES]
        size = _frame_bytes(header, first)
        end = at + size
        following = content[end : end + _HEADER_BYTES]
        # A header that is not where the last frame ends may be chance, unless one follows it.
        if size and end <= len(content) and (is_in_step or _frame_bytes(following, header)):
            yield at
            first, is_in_step, at = first or header, True, end
        else:
            is_in_step, at = False, content.find(first[:2] or b"\xff", at + 1)


def _frame_bytes(header: bytes, like: bytes = b"") -> int:
    """The size of a frame of layer III; 0 if it is none, or has another version or rate."""
    if len(header) < _HEADER_BYTES or header[0] != 0xFF or header[1] & 0xE6 != 0xE2:
        return 0
    if like and (header[:2] != like[:2] or (header[2] ^ like[2]) & _RATE_BITS):
        return 0
    version, bitrate_index = header[1] >> 3 & 3, header[2] >> 4
    rates, rate_index = _RATES[version], (header[2] & _RATE_BITS) >> 2
    if rate_index >= len(rates):
        return 0
    bitrates, factor = (_BITRATES_1, 144) if version == _MPEG_1 else (_BITRATES_2, 72)
    bitrate, padding = bitrates[bitrate_index], header[2] >> 1 & 1
    return bitrate and factor * bitrate * 1_000 // rates[rate_index] + padding


def _side_bytes(header: bytes) -> int:
    """Bytes between a frame's header and its content, where a count would be."""
    is_mono = header[3] >> 6 == 3
    if header[1] >> 3 & 3 == _MPEG_1:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _has_count(content: bytes, side_bytes: int) -> bool:
    """Whether a frame counts those that follow, in Xing's way or in that of Fraunhofer."""
    xing = content[side_bytes : side_bytes + 12]
    counts = xing[:4] in (b"Xing", b"Info") and bool(xing[7] & 1) and any(xing[8:])
    return counts or content[32:36] == b"VBRI"


def _counting_frame(header: bytes, count: int) -> bytes:
    """A frame like others that has no sound and says how many frames follow: Xing's header."""
    second, third = header[1] | 1, _COUNT_BITRATE << 4 | header[2] & _RATE_BITS
    start = bytes([header[0], second, third, header[3]])
    content = bytes(_side_bytes(header)) + b"Xing\0\0\0\1" + count.to_bytes(4, "big")
    return (start + content).ljust(_frame_bytes(start), b"\0")
