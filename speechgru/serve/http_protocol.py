"""uvicorn's HTTP protocol, with a limit on how long a request may take to arrive."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from speechgru.serve.service import Service


class HttpProtocol(H11Protocol):
    """Aborts a connection whose request is not complete in time.

    uvicorn's own timer ends with the first byte of the next request.
    """

    def __init__(self, service: Service, **of_uvicorn: Any) -> None:
        super().__init__(**of_uvicorn)
        self._service = service
        self._timer: asyncio.TimerHandle | None = None

    def handle_events(self) -> None:
        """Handle what has arrived; the rest of a request is waited for for a limited time."""
        super().handle_events()
        if not self._is_partial:
            self._stop_timer()
        elif self._timer is None:
            self._timer = self.loop.call_later(self._service.limits.hello_s, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is closed."""
        self._stop_timer()
        super().connection_lost(exc)

    @property
    def _is_partial(self) -> bool:
        """Whether a request has begun to arrive and is not complete."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        # In this order: a closed TLS transport has no protocol to ask for.
        if self.transport.is_closing() or self.transport.get_protocol() is not self:
            return  # it may be a WebSocket's by now
        self._service.metrics.refused["silent"] += 1
        self.transport.abort()
