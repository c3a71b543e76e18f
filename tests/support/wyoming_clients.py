"""Wyoming messages as bytes over a plain socket."""

import json
import socket
from contextlib import suppress

from wyoming.audio import AudioChunk


def chunks(content, rate=16_000, width=2, channels=1, ms=30, start_ms=0):
    size = rate * ms // 1000 * width * channels
    for first in range(0, len(content), size):
        at = start_ms + 1000 * (first // (width * channels)) // rate
        yield AudioChunk(rate, width, channels, content[first : first + size], at).event()


def connected(server, wait_s=60.0):
    return socket.create_connection((server.address.host, server.address.port), wait_s)


def send(sock, *events):
    """All at once, so that the server reads it at once."""
    sock.sendall(b"".join(as_bytes(event) for event in events))


def as_bytes(event):
    data, payload = json.dumps(event.data).encode(), event.payload or b""
    line = header(type=event.type, data_length=len(data), payload_length=len(payload))
    return line + data + payload


def header(**fields):
    return json.dumps(fields).encode() + b"\n"


def received(sock, until=None):
    """What comes until the server closes, or until this has come."""
    answer = b""
    with suppress(ConnectionError):
        while (until is None or until not in answer) and (part := sock.recv(65_536)):
            answer += part
    return answer
