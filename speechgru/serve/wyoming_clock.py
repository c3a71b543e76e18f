"""A Wyoming client's own times of the sound that it sends."""

import math
from collections import deque

#: A timestamp so much later than the sound before it tells of a pause.
_PAUSE_MS = 500.0
#: So many pauses of a stream are remembered.
_MOST_PAUSES = 8


class ClientClock:
    """When a client recorded each place in a stream, by the timestamps of its chunks.

    A satellite stops sending while it is muted or in a conversation, and its time goes on.
    """

    def __init__(self) -> None:
        #: Places, in seconds received, with the client's milliseconds: the first, and after pauses.
        self._known: deque[tuple[float, float]] = deque(maxlen=_MOST_PAUSES)

    def note(self, received_s: float, timestamp_ms: object) -> None:
        """A chunk after so many seconds has this timestamp, if it has one that is a number."""
        if not isinstance(timestamp_ms, int | float) or not math.isfinite(timestamp_ms):
            return
        if not self._known or timestamp_ms - self.moment_ms(received_s) > _PAUSE_MS:
            self._known.append((received_s, timestamp_ms))

    def moment_ms(self, received_s: float) -> float:
        """The client's time of a place; milliseconds since the start if it tells no times."""
        if not self._known:
            return 1000 * received_s
        before = [known for known in self._known if known[0] <= received_s]
        at_s, at_ms = before[-1] if before else self._known[0]
        return at_ms + 1000 * (received_s - at_s)
