"""The server: sockets, signals and a clean shutdown."""

import asyncio
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any

import uvicorn

from speechgru.serve.access import Access, Address, is_loopback
from speechgru.serve.app import make_app
from speechgru.serve.discovery import Announcement
from speechgru.serve.front_door import FrontDoor
from speechgru.serve.http_protocol import HttpProtocol
from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.trainer import Trainer
from speechgru.serve.processes import Place
from speechgru.serve.service import FAREWELL_S, Service, cut
from speechgru.serve.socket_protocol import SocketProtocol
from speechgru.serve.sockets import listeners
from speechgru.serve.tls import Certificate

#: The usual port of Wyoming's wake-word services.
PORT = 10_400


@dataclass(frozen=True)
class ServerOptions:
    """Where a server listens, and who may use it.

    `address` serves HTTP and WebSocket. It also serves Wyoming, which has neither a token nor TLS,
    if it is a loopback address without TLS. `wyoming` is a further address for Wyoming alone:
    anyone who can reach it can use it. `places` is where the page may write; None: nowhere.
    `place` is this process's among several that serve these addresses.
    """

    address: Address
    access: Access
    wyoming: Address | None = None
    certificate: Certificate | None = None
    places: Places | None = None
    place: Place | None = None


class Server(uvicorn.Server):
    """Runs until SIGINT or SIGTERM, then processes all sound received so far and stops.

    Args:
        started: called with the addresses of HTTP and of Wyoming once the server listens on them.
    """

    def __init__(
        self,
        service: Service,
        options: ServerOptions,
        started: Callable[[Address, list[Address]], None] = lambda address, wyoming: None,
    ) -> None:
        self._service, self._options = service, options
        self._started = started
        self._transports: set[asyncio.Transport] = set()
        self._ending: asyncio.Task[None] | None = None
        #: The signal that stopped the server.
        self.stopped_by: int | None = None
        self._exiting = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        #: Empty until `startup`: a signal may come before.
        self.servers: list[asyncio.Server] = []
        self._trainer = Trainer(options.places) if options.places is not None else None
        limits = service.limits
        certificate = options.certificate
        config = uvicorn.Config(
            make_app(
                service,
                options.access,
                options.places,
                self._trainer,
                is_alone=options.place is None,
            ),
            http=self._front_door,  # type: ignore[arg-type]
            ws=SocketProtocol,
            ws_max_size=limits.message_bytes,
            ws_per_message_deflate=False,
            # The answer of a client that is read slowly comes after its sound, too late; one that
            # has vanished sends no sound.
            ws_ping_interval=None,
            lifespan="off",
            log_config=None,
            log_level="error",
            access_log=False,
            proxy_headers=False,
            server_header=False,
            ssl_certfile=certificate.certificate if certificate else None,
            ssl_keyfile=certificate.key if certificate else None,
        )
        super().__init__(config)

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen until told to stop.

        Raises:
            UsageError: an address is in use, or not one of this machine's.
        """
        options = self._options
        self._loop = asyncio.get_running_loop()
        self._service.start()
        place = options.place
        if place is None:
            own = (await asyncio.to_thread(listeners, options.address, options.wyoming))[0]
        else:
            own = place.listeners
        main, addresses, extra = own.main, [], None
        if self._wyoming_on_main:
            addresses.append(_address_of(main))
        if own.wyoming is not None:
            extra = await self._loop.create_server(
                lambda: FrontDoor(self._service, None, True, self._transports), sock=own.wyoming
            )
            addresses.append(_address_of(own.wyoming))
        self._on_started = lambda: self._started(_address_of(main), addresses)
        try:
            announced = addresses if place is None or place.is_first else []
            async with Announcement(announced, self._service.tell):
                await super().serve([main])
        finally:
            if extra is not None:
                extra.close()
            if self._ending is None:
                await self._service.stop()
            if self._trainer is not None:
                await asyncio.to_thread(self._trainer.close)

    async def main_loop(self) -> None:
        """As in uvicorn, which wakes up ten times a second to look whether it is over."""
        while not await self.on_tick(0):
            with suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await self._exiting.wait()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As in uvicorn, but with the time limit of a first message for TLS handshakes."""
        await self.lifespan.startup()

        def protocol() -> FrontDoor:
            return self._front_door(
                config=self.config,
                server_state=self.server_state,
                app_state=self.lifespan.state,
            )

        context = self.config.ssl
        limit_s = self._service.limits.hello_s if context else None
        self.servers = [
            await self._loop.create_server(
                protocol, sock=listener, ssl=context, ssl_handshake_timeout=limit_s
            )
            for listener in sockets or []
        ]
        self.started = True
        self._on_started()

    @property
    def _wyoming_on_main(self) -> bool:
        return is_loopback(self._options.address.host) and self._options.certificate is None

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """End the streams, then the server; Ctrl-C after another signal ends the server at once.

        A terminal that is closed may say so twice, and a service manager in two ways.
        """
        # The loop may be waiting for its clients; only a call from outside wakes it up.
        if self.stopped_by is not None:
            if sig != signal.SIGINT:
                return
            super().handle_exit(sig, frame)
            self._loop.call_soon_threadsafe(self._exiting.set)
            return
        self.stopped_by = sig
        self._loop.call_soon_threadsafe(self._begin_to_end)

    def _begin_to_end(self) -> None:
        self._ending = self._loop.create_task(self._end())

    async def _end(self) -> None:
        for server in self.servers:
            server.close()
        self.servers.clear()  # uvicorn would wait for handshakes that nobody completes
        if self._trainer is not None:
            self._trainer.stop()
        await self._service.stop()
        self._loop.call_later(FAREWELL_S, self._cut_connections)
        self.should_exit = True
        self._exiting.set()

    def _cut_connections(self) -> None:
        """Cut off who does not read an answer, or does not send the rest of a request."""
        for transport in self._transports:
            cut(transport)

    def _front_door(self, **of_uvicorn: Any) -> FrontDoor:
        def http() -> HttpProtocol:
            return HttpProtocol(self._service, **of_uvicorn)

        return FrontDoor(self._service, http, self._wyoming_on_main, self._transports)


def _address_of(listener: socket.socket) -> Address:
    host, port = listener.getsockname()[:2]
    return Address(host, port)
