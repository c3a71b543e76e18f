"""An ONNX file from the outside: its metadata, and what its graph may not have.

An ONNX file is one protobuf message (onnx/onnx.proto3, ModelProto). speechgru adds its header to
the metadata, with the SHA-256 of the graph in it, so that a file that was cut, damaged or changed
is noticed before any program reads the graph. The provenance, with a whole recipe for each run, is
compressed there, as files for small machines should be small.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from speechgru.common.files import why_no_file
from speechgru.errors import DataError
from speechgru.modelfile.header import KEY, MOST_HEADER_BYTES, parse_header, plain_json
from speechgru.modelfile.protobuf import Field, bytes_field, fields, varint

#: Fields of ModelProto.
_GRAPH, _METADATA, _TRAINING, _FUNCTIONS = 7, 14, 20, 25
#: Fields of GraphProto, NodeProto, AttributeProto and TensorProto.
_NODE, _INITIALIZER, _GRAPH_OUTPUT = 1, 5, 12
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_TENSOR, _SUBGRAPH, _TENSORS, _SUBGRAPHS = 5, 6, 10, 11
_TENSOR_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14
#: The name in ValueInfoProto.
_NAME = 1

#: In the metadata of the header, compressed.
_PROVENANCE = "provenance"

#: Protobuf allows no larger message.
_LARGEST_BYTES = 2**31 - 1
#: Far more than any speechgru model has.
_MOST_NODES, _DEEPEST_GRAPH = 20_000, 4


class OnnxFile(NamedTuple):
    """The bytes of a complete, undamaged model, and its header."""

    content: bytes
    header: Mapping[str, Any]


def is_onnx(path: Path) -> bool:
    """Whether a file is an ONNX file, by its first bytes or, if these do not tell, its name."""
    start = b""
    with suppress(OSError):
        if path.is_file():  # nobody may be writing into a pipe
            with path.open("rb") as file:
                start = file.read(9)
    # A safetensors file starts with the length of its header in eight bytes, then JSON.
    if start[8:9] == b"{":
        return False
    return path.suffix == ".onnx" or start[:1] == b"\x08"  # ModelProto.ir_version


def read_bytes(path: Path) -> bytes:
    """The bytes of what should be an ONNX file.

    Raises:
        DataError: missing, unreadable, or too large to be one.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: {why_no_file(path)}; a model (.onnx) is needed")
    size = path.stat().st_size
    if size > _LARGEST_BYTES:
        raise DataError(f"{path}: {size} bytes; an ONNX file has at most {_LARGEST_BYTES}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def parse_onnx(content: bytes) -> OnnxFile:
    """Check the bytes of a file and read its header. Error messages lack the file's name.

    Raises:
        DataError: not an ONNX file, truncated, damaged, not a speechgru model, of a newer format,
            or with a graph that is unsafe to run.
    """
    try:
        graph, raw = _graph_and_header(content)
        header = parse_header(raw, "an ONNX")
        _unpack_provenance(header["metadata"])
        described = header.get("graph")
        if not isinstance(described, dict):
            raise DataError("the model is inconsistent: its header does not describe the graph")
        if described.get("sha256") != _sha256(graph):
            raise DataError("the graph is not the one that was exported; the file is damaged")
        _check_graph(graph)
    except ValueError as error:
        raise DataError(f"not a complete ONNX file: {error}") from error
    return OnnxFile(content, header)


def with_header(content: bytes, header: Mapping[str, Any]) -> bytes:
    """A model's bytes with this header instead of its own; the graph stays as it is."""
    view = memoryview(content)
    graph, _ = _graph_and_header(content)
    described = dict(header) | {"graph": header["graph"] | {"sha256": _sha256(graph)}}
    others = (view[field.start : field.end] for field in fields(content) if not _is_header(field))
    raw = json.dumps(_with_packed_provenance(described), separators=(",", ":"))
    pair = bytes_field(1, KEY.encode()) + bytes_field(2, raw.encode())
    return b"".join(others) + bytes_field(_METADATA, pair)


def _with_packed_provenance(header: dict[str, Any]) -> dict[str, Any]:
    """A header with the provenance as text, if it has one."""
    metadata = header.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get(_PROVENANCE), dict):
        return header
    raw = json.dumps(metadata[_PROVENANCE], separators=(",", ":")).encode()
    packed = base64.b64encode(zlib.compress(raw, level=9)).decode()
    return header | {"metadata": metadata | {_PROVENANCE: packed}}


def _unpack_provenance(metadata: dict[str, Any]) -> None:
    """Undo `_with_packed_provenance`, in place.

    Raises:
        DataError: it was not written by it.
    """
    packed = metadata.get(_PROVENANCE)
    if not isinstance(packed, str):
        return
    try:
        decompressor = zlib.decompressobj()
        raw = decompressor.decompress(base64.b64decode(packed), MOST_HEADER_BYTES)
        metadata[_PROVENANCE] = plain_json(raw.decode())
    except (ValueError, zlib.error) as error:
        raise DataError(f"{_PROVENANCE} in the header is damaged: {error}") from error


def with_constants_as_outputs(content: bytes) -> tuple[bytes, frozenset[str]]:
    """A model's bytes with what its graph computes from constants as outputs, and their names."""
    graph, _ = _graph_and_header(content)
    constants, computed = {b""}, list[bytes]()
    existing = set()
    for field in fields(graph):
        if field.number == _INITIALIZER:
            constants |= {bytes(f.value) for f in fields(field.value) if f.number == _TENSOR_NAME}
        elif field.number == _GRAPH_OUTPUT:
            existing |= {bytes(f.value) for f in fields(field.value) if f.number == _NAME}
    for field in fields(graph):
        if field.number != _NODE:
            continue
        parts = list(fields(field.value))
        is_constant = all(bytes(f.value) in constants for f in parts if f.number == _INPUT)
        if is_constant and not list(_check_node(field.value)):  # a subgraph may see other inputs
            outputs = [bytes(f.value) for f in parts if f.number == _OUTPUT and len(f.value)]
            constants.update(outputs)
            computed += outputs
    added = [name for name in computed if name not in existing]
    new_fields = (bytes_field(_GRAPH_OUTPUT, bytes_field(_NAME, name)) for name in added)
    # Of a message that occurs twice, protobuf joins the fields: this adds to the graph's outputs.
    extended = bytes_field(_GRAPH, b"".join(new_fields))
    return content + extended, frozenset(name.decode(errors="replace") for name in added)


def _graph_and_header(content: bytes) -> tuple[memoryview, str | None]:
    """The graph, and the JSON of our header if there is one.

    Raises:
        ValueError: the bytes are not a protobuf message, are cut, or hold no graph.
    """
    graph: memoryview | None = None
    headers = []
    for field in fields(content):
        if field.number == _GRAPH:
            if graph is not None:
                raise ValueError("it holds two graphs")
            graph = field.value
        elif field.number in (_FUNCTIONS, _TRAINING):
            raise ValueError("it holds functions or training steps, which no speechgru model has")
        elif _is_header(field):
            headers.append(_pair(field).get(2, b""))
    if graph is None:
        raise ValueError("it holds no graph" if content else "it is empty")
    if len(headers) > 1 or any(len(header) > MOST_HEADER_BYTES for header in headers):
        raise ValueError("its metadata is not what speechgru writes")
    return graph, bytes(headers[0]).decode() if headers else None


def _check_graph(graph: memoryview) -> None:
    """Refuse what reads other files, may never end, or is not part of plain ONNX.

    Raises:
        DataError: the graph has such a part.
        ValueError: it cannot be parsed.
    """
    pending = [(graph, 1)]
    nodes = 0
    while pending:
        part, depth = pending.pop()
        if depth > _DEEPEST_GRAPH:
            raise DataError(f"graphs are nested deeper than {_DEEPEST_GRAPH}")
        for field in fields(part):
            if field.number == _INITIALIZER:
                _check_tensor(field.value)
            elif field.number == _NODE:
                nodes += 1
                pending += [(subgraph, depth + 1) for subgraph in _check_node(field.value)]
        if nodes > _MOST_NODES:
            raise DataError(f"the graph has more than {_MOST_NODES} nodes")


def _check_node(node: memoryview) -> Iterator[memoryview]:
    """The subgraphs of a node, which is checked itself."""
    for field in fields(node):
        if field.number == _OP_TYPE and bytes(field.value) == b"Loop":
            raise DataError("the graph has a Loop, which may never end; no speechgru model has one")
        if field.number == _DOMAIN and bytes(field.value) not in (b"", b"ai.onnx"):
            name = bytes(field.value[:40]).decode(errors="replace")
            raise DataError(f"the graph has an operator of another domain, {name!r}")
        if field.number == _ATTRIBUTE:
            for value in fields(field.value):
                if value.number in (_TENSOR, _TENSORS):
                    _check_tensor(value.value)
                elif value.number in (_SUBGRAPH, _SUBGRAPHS):
                    yield value.value


def _check_tensor(tensor: memoryview) -> None:
    for field in fields(tensor):
        is_elsewhere = field.number == _DATA_LOCATION and varint(field.value) != 0
        if is_elsewhere or field.number == _EXTERNAL_DATA:
            raise DataError("the graph keeps weights in another file; no speechgru model does")


def _is_header(field: Field) -> bool:
    return field.number == _METADATA and _pair(field).get(1) == KEY.encode()


def _pair(field: Field) -> dict[int, memoryview]:
    return {part.number: part.value for part in fields(field.value)}


def _sha256(graph: memoryview) -> str:
    return hashlib.sha256(graph).hexdigest()
