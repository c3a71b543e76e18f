"""What the headers of audio files say about their length, which libsndfile does not verify."""

import io
import os
from pathlib import Path
from typing import IO, Literal

#: Programs that write into a pipe cannot know the length: they declare 2 GB or more.
_UNKNOWN_BYTES = 0x7FFF0000
_W64_RIFF = bytes.fromhex("72696666 2e91cf11 a5d628db 04c10000")
_MAX_CHUNKS = 10_000

ByteOrder = Literal["little", "big"]


def missing_bytes(path: Path) -> tuple[int, int] | None:
    """Bytes that are there, and that the header declares, where there are fewer; else None.

    A tolerance of 8 bytes allows for writers that count the RIFF header twice.
    """
    with path.open("rb") as file:
        present = file.seek(0, os.SEEK_END)
        declared = _declared_bytes(file)
    if declared is None or present >= declared - 8:
        return None
    return present, declared


def open_unfinished_wav(path: Path) -> IO[bytes] | None:
    """A WAV whose writer was killed before it stored the length, as a file that has one.

    Such a file declares 0 bytes of samples although more follow than the header accounts for. None
    for all other files.
    """
    with path.open("rb") as file:
        present = file.seek(0, os.SEEK_END)
        file.seek(0)
        form, riff_bytes = file.read(4), _integer(file, 4, "little")
        if form not in (b"RIFF", b"RF64", b"BW64") or file.read(4) != b"WAVE":
            return None
        is_closed = form == b"RIFF" and riff_bytes + 8 >= present and riff_bytes < _UNKNOWN_BYTES
        samples = _find_chunk(file, 12, b"data", present)
        if is_closed or samples is None or samples >= present:
            return None
        file.seek(samples - 4)
        declared = _integer(file, 4, "little")
        if form != b"RIFF":
            declared = _rf64_samples(file, present)
    if declared:
        return None
    to_the_end = b"\xff\xff\xff\xff"
    patches = {0: b"RIFF", 4: to_the_end, samples - 4: to_the_end}
    return io.BufferedReader(_Patched(path, patches))


class _Patched(io.RawIOBase):
    """A file in which some bytes read differently: position -> bytes."""

    def __init__(self, path: Path, patches: dict[int, bytes]) -> None:
        self._file, self._patches = path.open("rb"), patches

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        start = self._file.tell()
        content = bytearray(self._file.read(len(buffer)))
        for position, patch in self._patches.items():
            for i, value in enumerate(patch):
                if 0 <= position + i - start < len(content):
                    content[position + i - start] = value
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        self._file.close()
        super().close()


def _declared_bytes(file: IO[bytes]) -> int | None:
    """The size of the whole file by its header; None where it is unknown or not declared."""
    file.seek(0)
    kind = file.read(4)
    if kind in (b"RIFF", b"FORM"):
        declared = 8 + _integer(file, 4, "little" if kind == b"RIFF" else "big")
        return declared if declared < _UNKNOWN_BYTES else None
    if kind in (b"RF64", b"BW64"):
        file.seek(12)
        return 8 + _integer(file, 8, "little") if file.read(8)[:4] == b"ds64" else None
    if kind == b".snd":
        offset, size = _integer(file, 4, "big"), _integer(file, 4, "big")
        return offset + size if size < _UNKNOWN_BYTES else None
    if kind == b"dns.":
        offset, size = _integer(file, 4, "little"), _integer(file, 4, "little")
        return offset + size if size < _UNKNOWN_BYTES else None
    if kind + file.read(12) == _W64_RIFF:
        return _integer(file, 8, "little")
    return None


def _find_chunk(file: IO[bytes], position: int, name: bytes, end: int) -> int | None:
    """Where the content of a RIFF file's chunk starts."""
    for _ in range(_MAX_CHUNKS):
        file.seek(position)
        chunk, size = file.read(4), _integer(file, 4, "little")
        if chunk == name:
            return position + 8
        position += 8 + size + size % 2
        if position >= end:
            return None
    return None


def _rf64_samples(file: IO[bytes], end: int) -> int:
    """Bytes of samples that an RF64 file declares."""
    sizes = _find_chunk(file, 12, b"ds64", end)
    if sizes is None:
        return 0
    file.seek(sizes + 8)
    return _integer(file, 8, "little")


def _integer(file: IO[bytes], size: int, order: ByteOrder) -> int:
    return int.from_bytes(file.read(size), order)
