"""What `listen --explain` says: which words were nearly recognized, and what held them."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechgru.decoding.detector import Detector, Verdict


class NearMisses:
    """Tells each stretch in which a word was nearly recognized, once it is over."""

    def __init__(self, detector: "Detector") -> None:
        self._detector = detector
        self._told_s = 0.0

    def tell_new(self, tell: Callable[[str], None]) -> None:
        """Tell those that ended since the last call."""
        for verdict in self._detector.near_misses(self._told_s):
            tell(explanation(verdict))
            self._told_s = verdict.end_s


def explanation(verdict: "Verdict") -> str:
    """A sentence: when, which word, how far it came, and which gate held it."""
    reason = {
        "threshold": f"{verdict.threshold:.2f} is needed",
        "duration": f"it was not over {verdict.threshold:.2f} for long enough",
        "held": "its last event was not over",
        "refractory": "too soon after another event",
        "speech": "other words led up to it without a pause",
        "event": "recognized",
    }[verdict.gate]
    return (
        f"{verdict.start_s:9.2f} s  nearly {verdict.word} {verdict.score:.2f}, "
        f"held by {verdict.gate}: {reason}"
    )
