"""Listening sockets: one for an address, or several between which the system shares connections."""

import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from speechgru.errors import UsageError
from speechgru.serve.access import Address

_BACKLOG = 1024
#: After so many seconds without data the system checks a connection.
_KEEP_ALIVE_S = 60


@dataclass(frozen=True)
class Listeners:
    """Sockets of one server: for HTTP and WebSocket, and a further one for Wyoming alone."""

    main: socket.socket
    wyoming: socket.socket | None = None

    def close(self) -> None:
        """Close them in this process."""
        self.main.close()
        if self.wyoming is not None:
            self.wyoming.close()


def allow_open_files(count: int) -> int:
    """Let this process open so many files and sockets, if the system allows it; how many it may."""
    if sys.platform == "win32":
        return count
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = resource.RLIM_INFINITY
    if soft == unlimited or soft >= count:
        return count
    allowed = count if hard == unlimited else min(count, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def listeners(main: Address, wyoming: Address | None = None, count: int = 1) -> list[Listeners]:
    """Listeners for the servers of `count` processes on the same addresses.

    Raises:
        UsageError: an address is in use, or not one of this machine's; or the system cannot share
            it.
    """
    mains = _listening(main, count)
    others = _listening(wyoming, count) if wyoming is not None else [None] * count
    return [Listeners(*pair) for pair in zip(mains, others, strict=True)]


def _listening(address: Address, count: int) -> list[socket.socket]:
    if count == 1:
        return [_bound(address)]
    if not sys.platform.startswith("linux"):
        raise UsageError("--processes: only Linux shares the connections to a port")
    first = _bound(address)  # nobody else listens there; the port, if any will do
    found = Address(address.host, first.getsockname()[1])
    first.close()
    return [_bound(found, shared=True) for _ in range(count)]


def _bound(address: Address, shared: bool = False) -> socket.socket:
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        family, kind, protocol, _, place = found[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if shared:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind(place)
            listener.listen(_BACKLOG)
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{address}: cannot be listened on: {reason}") from error
    listener.setblocking(False)
    return listener


def keep_alive(connection: Any) -> None:
    """Let the system ask now and then whether the other side is still there."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if sys.platform.startswith("linux"):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _KEEP_ALIVE_S)
