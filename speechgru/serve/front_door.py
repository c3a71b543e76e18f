"""One port for Wyoming, HTTP and WebSocket: the first byte of a connection tells which it is."""

import asyncio
import socket
from collections.abc import Callable

from speechgru.serve.http_protocol import HttpProtocol
from speechgru.serve.service import Service
from speechgru.serve.wyoming import WyomingSession
from speechgru.serve.wyoming_messages import HEADER_BYTES

#: Connections allowed in addition to those with streams, for pages and metrics.
MORE_CONNECTIONS = 64
#: The system's send buffer for a client that does not read; its default is megabytes.
SEND_BUFFER_BYTES = 2**17
#: Most bytes that asyncio reads at once. Its 256 KiB are more than malloc keeps: getting them from
#: the system for each small message would take three times as long as reading it.
READ_BYTES = 2**16


class FrontDoor(asyncio.Protocol):
    """Waits for a connection's first byte, then hands the connection to its protocol.

    Args:
        service: has the limits that apply.
        http: makes the protocol for HTTP and WebSocket; None refuses both.
        wyoming: whether Wyoming is accepted here.
        transports: the open connections of all front doors, to count them.
    """

    def __init__(
        self,
        service: Service,
        http: Callable[[], HttpProtocol] | None,
        wyoming: bool,
        transports: set[asyncio.Transport],
    ) -> None:
        self._service, self._make_http, self._wyoming = service, http, wyoming
        self._transports = transports
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for the first byte, for a limited time."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._transports -= {other for other in self._transports if other.is_closing()}
        if len(self._transports) >= self._service.limits.clients + MORE_CONNECTIONS:
            self._service.metrics.refused["connections"] += 1
            transport.abort()
            return
        connection = transport.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(transport, "max_size"):  # not one of TLS, which has a buffer of its own
            transport.max_size = READ_BYTES
        self._transports.add(transport)
        self._timer = loop.call_later(self._service.limits.hello_s, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Hand the connection on, with its first bytes."""
        self._timer.cancel()
        if data[:1] == b"{" and self._wyoming:
            self._hand_over(self._wyoming_protocol(), data)
        elif data[:1] != b"{" and self._make_http is not None:
            self._hand_over(self._make_http(), data)
        else:
            self._service.metrics.refused["protocol"] += 1
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client closed the connection before its first byte."""
        if hasattr(self, "_timer"):
            self._timer.cancel()

    def _give_up(self) -> None:
        """Abort a connection that has sent nothing."""
        if self._transport.is_closing():
            return
        self._service.metrics.refused["silent"] += 1
        self._transport.abort()

    def _hand_over(self, protocol: asyncio.Protocol, data: bytes) -> None:
        protocol.connection_made(self._transport)
        self._transport.set_protocol(protocol)
        protocol.data_received(data)

    def _wyoming_protocol(self) -> asyncio.StreamReaderProtocol:
        reader = asyncio.StreamReader(limit=HEADER_BYTES)

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await WyomingSession(self._service, reader, writer).run()

        return asyncio.StreamReaderProtocol(reader, run)
