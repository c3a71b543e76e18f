"""A Wyoming client's own times of the sound that it sends."""

import math

#: A timestamp this far from where the sound before puts it tells of a pause, or that it was none.
_APART_MS = 500.0
#: So many pauses of a stream are remembered.
_MOST_PAUSES = 8


class ClientClock:
    """When a client recorded each place in a stream, by the timestamps of its chunks.

    A satellite stops sending while it is muted or in a conversation, and its time goes on. One that
    could not send for a while sends what it has kept all at once: that was no pause.
    """

    def __init__(self) -> None:
        #: Places, in seconds received, with the client's milliseconds: the first, and after pauses.
        self._known: list[tuple[float, float]] = []

    def note(self, received_s: float, timestamp_ms: object) -> None:
        """A chunk after so many seconds has this timestamp, if it has one that is a number."""
        if not isinstance(timestamp_ms, int | float) or not math.isfinite(timestamp_ms):
            return
        late_ms = timestamp_ms - self.moment_ms(received_s)
        if not self._known or late_ms > _APART_MS:
            self._known.append((received_s, timestamp_ms))
            del self._known[:-_MOST_PAUSES]
        elif late_ms < -_APART_MS and len(self._known) > 1:
            # More sound than time: what had waited, if the time before it goes on.
            before_ms = _moment_ms(self._known[-2], received_s)
            if abs(timestamp_ms - before_ms) <= _APART_MS:
                del self._known[-1]

    def moment_ms(self, received_s: float) -> float:
        """The client's time of a place; milliseconds since the start if it tells no times."""
        if not self._known:
            return 1000 * received_s
        before = [known for known in self._known if known[0] <= received_s]
        return _moment_ms(before[-1] if before else self._known[0], received_s)


def _moment_ms(known: tuple[float, float], received_s: float) -> float:
    at_s, at_ms = known
    return at_ms + 1000 * (received_s - at_s)
