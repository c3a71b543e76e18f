"""An .onnx file from the outside: its graph's bytes and its metadata, without any ONNX package.

An ONNX file is one protobuf message (onnx/onnx.proto3, ModelProto): fields one after the other,
each a tag and a value. Two of them are needed here, the graph (7) and the metadata (14, pairs of
strings). What speechgru writes ends with one pair: its header, with the graph's SHA-256 in it. So a
file that was cut, damaged or changed is told before any program reads the graph.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from speechgru.errors import DataError
from speechgru.modelfile.header import KEY, parse_header

_GRAPH, _METADATA = 7, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
#: Protobuf itself allows no larger message.
_LARGEST_BYTES = 2**31 - 1
_MOST_HEADER_BYTES = 2**24


class OnnxFile(NamedTuple):
    """The bytes of a whole, undamaged model, and its header."""

    content: bytes
    header: Mapping[str, Any]


def read_bytes(path: Path) -> bytes:
    """The bytes of what should be an ONNX file.

    Raises:
        DataError: missing, cannot be read, or too large to be one.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "no such file"
        raise DataError(f"{path}: {what}; a model (.onnx) is needed")
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise DataError(f"{path}: {size} bytes; an ONNX file has at most {_LARGEST_BYTES}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def parse_onnx(content: bytes) -> OnnxFile:
    """See that a file's bytes are whole and one of ours. Messages do not have the file's name.

    Raises:
        DataError: no ONNX file, truncated, damaged, not a speechgru model, or of a newer format.
    """
    try:
        graph, raw = _parts(content)
    except ValueError as error:
        raise DataError(f"not a whole ONNX file: {error}") from error
    header = parse_header(raw, "an ONNX")
    written = header.get("graph")
    if not isinstance(written, dict):
        raise DataError("the model is inconsistent: its header does not describe the graph")
    if written.get("sha256") != _sha256(graph):
        raise DataError("the graph is not the one that was exported; the file is damaged")
    return OnnxFile(content, header)


def with_header(content: bytes, header: Mapping[str, Any]) -> bytes:
    """A model's bytes with a header, in place of the one it may have; the graph stays as it is."""
    view = memoryview(content)
    graph, _ = _parts(content)
    described = dict(header) | {"graph": header["graph"] | {"sha256": _sha256(graph)}}
    kept = b"".join(view[field.first : field.end] for field in _fields(content) if not _ours(field))
    pair = _packed(1, KEY.encode()) + _packed(2, json.dumps(described).encode())
    return kept + _packed(_METADATA, pair)


class _Field(NamedTuple):
    """A field of a message: its number, its value's bytes, and where it begins and ends."""

    number: int
    value: memoryview
    first: int
    end: int


def _parts(content: bytes) -> tuple[memoryview, str | None]:
    """The graph, and our header's JSON if there is one.

    Raises:
        ValueError: the bytes are no protobuf message, are cut, or hold no graph.
    """
    graph: memoryview | None = None
    headers = []
    for field in _fields(content):
        if field.number == _GRAPH:
            if graph is not None:
                raise ValueError("it holds two graphs")
            graph = field.value
        elif _ours(field):
            headers.append(dict(_pairs(field.value)).get(2, b""))
    if graph is None:
        raise ValueError("it holds no graph" if content else "it is empty")
    if len(headers) > 1 or any(len(header) > _MOST_HEADER_BYTES for header in headers):
        raise ValueError("its metadata are not what speechgru writes")
    return graph, bytes(headers[0]).decode() if headers else None


def _ours(field: _Field) -> bool:
    return field.number == _METADATA and dict(_pairs(field.value)).get(1) == KEY.encode()


def _pairs(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    return ((field.number, field.value) for field in _fields(message))


def _fields(message: bytes | memoryview) -> Iterator[_Field]:
    """The fields of a message in their order, each checked to lie within it."""
    view = memoryview(message)
    place = 0
    while place < len(view):
        first = place
        tag, place = _varint(view, place)
        kind = tag & 7
        if kind == _VARINT:
            start = place
            _, place = _varint(view, place)
        elif kind == _BYTES:
            size, start = _varint(view, place)
            place = start + size
        elif kind in (_FIXED32, _FIXED64):
            start, place = place, place + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError(f"unreadable at byte {first}")
        if place > len(view):
            raise ValueError(f"it ends at byte {len(view)}, within a field that needs {place}")
        yield _Field(tag >> 3, view[start:place], first, place)


def _varint(view: memoryview, place: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; and where it ends."""
    value = 0
    for i, byte in enumerate(view[place : place + 10]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise ValueError(f"unreadable at byte {place}")


def _packed(number: int, value: bytes) -> bytes:
    """A field of bytes."""
    size, length = len(value), b""
    while size >= 0x80:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | _BYTES]) + length + bytes([size]) + value


def _sha256(graph: memoryview) -> str:
    return hashlib.sha256(graph).hexdigest()
