"""What one client may take of a server."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Each is told to the client that passes it, as the reason for which it is closed."""

    #: Streams at once, of all front doors.
    clients: int = 256
    #: Bytes of one message, and seconds of sound that one may hold or call lost.
    message_bytes: int = 2**20
    lost_s: float = 60.0
    #: Seconds without sound, and until a new connection has said what it wants.
    idle_s: float = 60.0
    hello_s: float = 10.0
    #: Seconds of sound that wait to be heard: who sends faster is read more slowly.
    waiting_s: float = 4.0
    #: Bytes that wait for a client which does not read them.
    unsent_bytes: int = 2**18
    #: Seconds in which streams are ended when the server stops.
    stop_s: float = 5.0
