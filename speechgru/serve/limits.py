"""Limits on what one client may use of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """A client that exceeds one is closed, with the limit as the reason."""

    #: Clients at once, over all protocols.
    clients: int = 256
    #: Bytes in a message, and seconds of sound that a message may report as lost.
    message_bytes: int = 2**20
    lost_s: float = 60.0
    #: Seconds without sound, and from a new connection to its first complete message.
    idle_s: float = 60.0
    #: Seconds without sound in which a Wyoming client may pause once it has sent some: a satellite
    #: does so while it is muted, or in a conversation.
    pause_s: float = 3600.0
    hello_s: float = 10.0
    #: Seconds of sound that may wait to be processed; beyond it the client is read more slowly.
    waiting_s: float = 4.0
    #: Bytes that may wait for a client that does not read them.
    unsent_bytes: int = 2**18
    #: Seconds that streams get to end when the server stops.
    stop_s: float = 5.0
