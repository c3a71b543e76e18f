"""Reads and writes the fields of protobuf messages, for ONNX files, without any package."""

from collections.abc import Iterator
from typing import NamedTuple

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Field(NamedTuple):
    """A field of a message: its number, the bytes of its value, and where it starts and ends.

    The value of a field of bytes is without its length.
    """

    number: int
    value: memoryview
    start: int
    end: int


def fields(message: bytes | memoryview) -> Iterator[Field]:
    """The fields of a message in order.

    Raises:
        ValueError: the bytes are not a protobuf message, or end within a field.
    """
    view = memoryview(message)
    place = 0
    while place < len(view):
        start = place
        tag, place = _read_varint(view, place)
        kind = tag & 7
        if kind == _VARINT:
            value = place
            _, place = _read_varint(view, place)
        elif kind == _BYTES:
            size, value = _read_varint(view, place)
            place = value + size
        elif kind in (_FIXED32, _FIXED64):
            value, place = place, place + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"unreadable at byte {start}")
        if place > len(view):
            raise ValueError(f"it ends at byte {len(view)}, within a field that needs {place}")
        yield Field(tag >> 3, view[value:place], start, place)


def varint(value: memoryview) -> int:
    """The number in the value of a varint field."""
    return _read_varint(value, 0)[0]


def bytes_field(number: int, value: bytes) -> bytes:
    """A field of bytes, encoded."""
    size, length = len(value), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | _BYTES]) + length + bytes([size]) + value


def _read_varint(view: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits per byte, lowest first, and where it ends."""
    value = 0
    for i, byte in enumerate(view[place : place + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise ValueError(f"unreadable at byte {place}")
