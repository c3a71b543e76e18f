"""What `listen --explain` reports: words that were nearly recognized, and why they were not."""

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from speechgru.decoding.detector import Detector, Verdict


class NearMisses:
    """Reports each stretch in which a word was nearly recognized, once it is over."""

    def __init__(self, detector: "Detector") -> None:
        self._detector = detector
        self._reported_s = 0.0

    def report_new(self, say: Callable[[str], None]) -> None:
        """Report those that ended since the last call."""
        for verdict in self._detector.near_misses(self._reported_s):
            say(explanation(verdict))
            self._reported_s = verdict.end_s


def explanation(verdict: "Verdict") -> str:
    """A sentence: when, which word, its score, and the gate that held it back."""
    reason = {
        "threshold": f"{verdict.threshold:.2f} is needed",
        "duration": f"it was not above {verdict.threshold:.2f} for long enough",
        "held": "its last event was not over",
        "refractory": "too soon after another event",
        "speech": "spoken directly after other words",
        "event": "recognized",
    }[verdict.gate]
    return (
        f"{verdict.start_s:9.2f} s  nearly {verdict.word} {verdict.score:.2f}, "
        f"held by {verdict.gate}: {reason}"
    )
