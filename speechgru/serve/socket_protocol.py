"""uvicorn's WebSocket protocol, with less work for each of many small messages."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame

if TYPE_CHECKING:
    from uvicorn._types import ASGISendEvent

#: Messages of a client that may wait for its session before no more are read.
MOST_QUEUED = 4


class SocketProtocol(WebSocketsSansIOProtocol):
    """Hands binary messages to a session that can take them at once; others wait in its queue.

    uvicorn's stops reading after every message that it queues; this one does when a few are
    waiting. For many streams of small messages each is a tenth of the work or more.
    """

    #: Set by a session: handles a binary message now, or returns False if it has to wait.
    take: Callable[[bytes], bool] | None = None

    async def run_asgi(self) -> None:
        """Run the app, for which the state of its scope has the connection's `transport`."""
        self.scope["state"]["transport"] = self.transport
        await super().run_asgi()

    async def send(self, message: "ASGISendEvent") -> None:
        """Send what the app says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # A refusal is an answer too: uvicorn would log that there was none.
            self.handshake_complete = True

    def handle_bytes(self, event: Frame) -> None:
        """Handle a binary message, or the first part of one."""
        if (
            event.fin
            and self.take is not None
            and self.queue.empty()
            and not self.close_sent
            and self.take(bytes(event.data))
        ):
            return
        super().handle_bytes(event)

    def send_receive_event_to_app(self) -> None:
        """Queue a message for the session; what comes after its end is discarded.

        A text that is not UTF-8 ends the connection; uvicorn would log it as an error of its own.
        """
        if self.curr_msg_data_type == "text" and not (self.close_sent or self._is_utf_8()):
            self.frames = []
            self.conn.send_close(CloseCode.INVALID_DATA, "a text message is not UTF-8")
            self.handle_parser_exception()
            return
        if not self.close_sent:  # else the client's answer to the close is still to be read
            self.read_paused = True  # as far as uvicorn knows; it reads on when the queue is empty
        super().send_receive_event_to_app()
        if self.read_paused and self.queue.qsize() > MOST_QUEUED:
            self.transport.pause_reading()

    def _is_utf_8(self) -> bool:
        try:
            b"".join(self.frames).decode()
        except UnicodeDecodeError:
            return False
        return True
