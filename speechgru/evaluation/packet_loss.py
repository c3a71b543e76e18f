"""What lost packets cost: a stream recognized whole, and again with some of its packets lost."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechgru.audio.samples import Samples
from speechgru.common.progress import Progress
from speechgru.corpora.truth import SpokenWord
from speechgru.decoding.factory import DecoderConfig, head_of, make_decoder
from speechgru.errors import UsageError
from speechgru.evaluation.events import EventReport, score_events
from speechgru.evaluation.metrics import spread_of_mean
from speechgru.evaluation.streams import Sound, StreamCase
from speechgru.recognition.backend import Backend
from speechgru.recognition.recognizer import Recognizer
from speechgru.recognition.state_policy import StatePolicy

#: A packet, and how many samples before it were lost.
Packet = tuple[Samples, int]


@dataclass(frozen=True)
class PacketLoss:
    """Packets of `packet_ms` milliseconds, each of which is lost with probability `share`.

    Raises:
        UsageError: a value out of range.
    """

    share: float = 0.05
    packet_ms: float = 20.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise UsageError(f"loss {self.share:g}: a share above 0 and below 1 is needed")
        if not 1 <= self.packet_ms <= 1000:
            raise UsageError(f"packet {self.packet_ms:g} ms: 1 to 1000 ms are needed")

    def packets(self, sound: Sound, rate: int) -> Iterator[Packet]:
        """The packets of a sound that arrive; the same for the same seed."""
        rng = np.random.default_rng(self.seed)
        size, lost = max(1, round(self.packet_ms * rate / 1000)), 0
        for block in sound:
            for first in range(0, len(block), size):
                packet = block[first : first + size]
                if rng.random() < self.share:
                    lost += len(packet)
                else:
                    yield packet, lost
                    lost = 0
        if lost:
            yield np.empty(0, np.float32), lost


@dataclass(frozen=True)
class LossReport:
    """The same stream without and with lost packets.

    Args:
        whole, lossy: the events of the stream without loss, and of each draw of lost packets.
    """

    loss: PacketLoss
    whole: EventReport
    lossy: tuple[EventReport, ...]

    @property
    def missed_rate(self) -> float:
        """The share of words without an event of theirs, without loss."""
        return self.whole.false_reject_rate

    @property
    def lossy_missed_rate(self) -> float:
        """The same with loss, the mean over the draws."""
        return float(np.mean([report.false_reject_rate for report in self.lossy]))

    @property
    def points(self) -> float:
        """Points (hundredths) of words missed more with loss than without."""
        return 100 * (self.lossy_missed_rate - self.missed_rate)

    @property
    def points_ci95(self) -> tuple[float, float] | None:
        """The interval of `points`: of the mean difference of each word, over words.

        The words are the sample; the draws of lost packets are averaged for each of them. None for
        a single word. Where no word differs, it is as wide as Wilson's of none on either side.
        """
        before = _missed(self.whole)
        if len(before) < 2:
            return None
        after = np.mean([_missed(report) for report in self.lossy], axis=0)
        spread = spread_of_mean(after - before)
        return self.points - 100 * spread, self.points + 100 * spread

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        alarms = [report.false_alarms_per_hour for report in self.lossy]
        return {
            "loss": self.loss.share,
            "packet_ms": self.loss.packet_ms,
            "draws": len(self.lossy),
            "n": self.whole.n,
            "hours": self.whole.hours,
            "missed_rate": self.missed_rate,
            "missed_rate_with_loss": self.lossy_missed_rate,
            "points": self.points,
            "points_ci95": list(interval) if (interval := self.points_ci95) else None,
            "false_alarms_per_hour": self.whole.false_alarms_per_hour,
            "false_alarms_per_hour_with_loss": float(np.mean(alarms)),
        }


def measure_loss(
    backend: Backend,
    case: StreamCase,
    loss: PacketLoss,
    config: DecoderConfig,
    policy: StatePolicy,
    draws: int = 4,
    progress: Progress | None = None,
) -> LossReport:
    """Recognize a stream whole, and then with packets lost, in `draws` independent draws.

    Raises:
        UsageError: a threshold is for a word that the model does not have.
    """
    rate = backend.sample_rate
    reports = []
    for draw in range(draws + 1):
        one = PacketLoss(loss.share, loss.packet_ms, loss.seed + draw)
        packets = one.packets(case.sound, rate) if draw else _all(case.sound)
        decoder = make_decoder(backend.info, config)
        recognizer = Recognizer(backend, decoder, policy, head_of(config))
        events = []
        for samples, lost in packets:
            events += recognizer.push(samples, lost=lost)
        events += recognizer.flush()
        reports.append(score_events(case.truth, events, recognizer.time_s))
        if progress is not None:
            progress(draw + 1, draws + 1)
    return LossReport(loss, reports[0], tuple(reports[1:]))


def _all(sound: Sound) -> Iterator[Packet]:
    return ((block, 0) for block in sound)


def _missed(report: EventReport) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """For each word whether it has no event of its own: (N,)."""
    matched = {_key(word) for word, _ in report.matched}
    return np.array([_key(word) not in matched for word in report.words], np.float64)


def _key(word: SpokenWord) -> tuple[str, float]:
    return word.word, word.start
