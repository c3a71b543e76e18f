"""WebSocket messages to the end of a connection, and a handshake over a plain socket."""

import json
import socket

from servers import without_latency
from websockets.exceptions import ConnectionClosed


def messages(client):
    """To the end; then how it was closed."""
    found = []
    try:
        while True:
            found.append(json.loads(client.recv(timeout=60)))
    except ConnectionClosed as closed:
        return found, closed.rcvd.code if closed.rcvd else None, _reason(closed)


def _reason(closed):
    return closed.rcvd.reason if closed.rcvd else ""


def events(found):
    return [without_latency(message) for message in found if "type" not in message]


def upgraded(server, path, receive_buffer=2**16, raw=None):
    """A socket whose WebSocket handshake is done: a new one, or one that is connected."""
    if raw is None:
        raw = socket.socket()
        raw.settimeout(60)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.connect((server.address.host, server.address.port))
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    # Frames may follow only once the server has agreed (RFC 6455, 4.1).
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += raw.recv(1)
    assert answer.startswith(b"HTTP/1.1 101 ")
    return raw
