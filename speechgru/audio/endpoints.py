"""Finds where words start and end in a stream, by the level in the speech band."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.levels import clipped_frames, decibels
from speechgru.audio.samples import Samples

#: What is wrong with a take.
Fault = Literal["clipped", "faint", "cut off", "too long"]

_FRAME_S = 0.02
#: Thumps, hum and rumble are below it; an "s" is high in it.
_BAND_HZ = (250.0, 7_000.0)
#: A word starts where three of four frames are this much louder than the room, and goes on while
#: frames are this much louder; no frame below the third level is speech.
_ONSET_DB, _HOLD_DB, _LOWEST_DB = 10.0, 6.0, -65.0
#: No room is louder: what is louder from the start on is speech.
_LOUDEST_ROOM_DB = -38.0
#: The room's level is the lower quartile of the last seconds. Before a word may start, this much
#: must have passed, as the level is still unknown.
_ROOM_S, _SETTLE_S, _QUARTILE = 3.0, 0.3, 0.25
#: Anything shorter is a click.
_SHORTEST_S = 0.1
#: Belongs to a take before and after what is spoken; whole frames.
MARGIN_S = 0.16
#: A take less than this over the room, or with a lower peak, is faint.
_FAINT_OVER_ROOM_DB, _FAINT_PEAK_DB = 12.0, -36.0
#: More samples at full scale than this are audible.
_CLIPPED_SAMPLES = 4


@dataclass(frozen=True)
class Take:
    """A spoken word or phrase, (S,) with `MARGIN_S` on either side, and what is wrong with it.

    Times are in the stream. `over_room_db` is how much louder than the room it is.
    """

    samples: Samples
    start_s: float
    end_s: float
    peak_db: float
    over_room_db: float
    fault: Fault | None


class EndpointDetector:
    """Finds words and phrases in a stream; the same ones in any chunking.

    Args:
        rate: hertz.
        end_s: a word ends with a pause of this length.
        longest_s: takes that are longer are faulty.
    """

    def __init__(self, rate: int, end_s: float = 0.5, longest_s: float = 4.0) -> None:
        self.rate, self.end_s, self.longest_s = rate, end_s, longest_s
        self._size = round(_FRAME_S * rate)
        hertz = np.fft.rfftfreq(self._size, 1 / rate)
        self._band = (hertz >= _BAND_HZ[0]) & (hertz <= _BAND_HZ[1])
        self._window = np.hanning(self._size)
        self._levels_db: deque[float] = deque(maxlen=round(_ROOM_S / _FRAME_S))
        #: Level of the last frame in the speech band, for a meter.
        self.level_db = decibels(0.0)
        self._rest = np.zeros(0, np.float32)
        self._recent_frames: deque[Samples] = deque()
        self._frames = 0
        self.rearm()

    def rearm(self) -> None:
        """Wait for the next word, which must not have started; the room's level is remembered."""
        self._armed_at = self._frames
        self._recent: deque[bool] = deque(maxlen=4)
        self._first: int | None = None
        self._last_speech = self._frames

    def gap(self) -> None:
        """Samples are missing here: wait for the next word, of which nothing is before the gap."""
        self._rest = np.zeros(0, np.float32)
        self._recent_frames.clear()
        self.rearm()

    @property
    def time_s(self) -> float:
        """Seconds of the stream so far."""
        return self._frames * _FRAME_S

    @property
    def room_db(self) -> float:
        """The room's level in the speech band."""
        if not self._levels_db:
            return _LOWEST_DB
        level_db = float(np.quantile(list(self._levels_db), _QUARTILE))
        return min(max(level_db, _LOWEST_DB), _LOUDEST_ROOM_DB)

    @property
    def is_speaking(self) -> bool:
        """Whether a word has started and has not ended."""
        return self._first is not None

    def push(self, samples: Samples) -> list[Take]:
        """The next samples, (S,); returns the takes that have ended."""
        samples = np.concatenate([self._rest, samples])
        whole = len(samples) // self._size * self._size
        self._rest = samples[whole:]
        takes = []
        for frame in samples[:whole].reshape(-1, self._size):
            take = self._push_frame(frame)
            if take is not None:
                takes.append(take)
        return takes

    def flush(self) -> list[Take]:
        """The end of the stream: a word that has not ended is a take, without its full margin."""
        return [self._finish()] if self._first is not None else []

    def _push_frame(self, frame: Samples) -> Take | None:
        self._recent_frames.append(frame)
        room_db, level_db = self.room_db, self._level_db(frame)
        self.level_db = level_db
        self._frames += 1
        if self._first is None:
            self._levels_db.append(level_db)
            self._recent.append(level_db > room_db + _ONSET_DB)
            self._forget()
            if sum(self._recent) >= 3 and self._frames * _FRAME_S > _SETTLE_S:
                self._first = self._frames - len(self._recent) + list(self._recent).index(True)
                self._last_speech, self._room_db = self._frames, room_db
            return None
        if level_db > self._room_db + _HOLD_DB:
            self._last_speech = self._frames
        quiet_s = (self._frames - self._last_speech) * _FRAME_S
        spoken_s = (self._last_speech - self._first) * _FRAME_S
        if spoken_s > self.longest_s or quiet_s >= self.end_s:
            if spoken_s < _SHORTEST_S:
                self.rearm()
                return None
            return self._finish()
        return None

    def _finish(self) -> Take:
        assert self._first is not None
        oldest = self._frames - len(self._recent_frames)
        margin = round(MARGIN_S / _FRAME_S)
        start = max(oldest, self._first - margin)
        stop = min(self._frames, self._last_speech + margin)
        samples = np.concatenate(list(self._recent_frames)[start - oldest : stop - oldest])
        first, last = self._first - oldest, self._last_speech - oldest
        spoken = np.concatenate(list(self._recent_frames)[first : max(last, first + 1)])
        peak_db = decibels(float(np.abs(samples).max(initial=0.0)))
        over_room_db = self._loudness_db(spoken) - self._room_db
        take = Take(
            samples,
            start * _FRAME_S,
            stop * _FRAME_S,
            round(peak_db, 1),
            round(over_room_db, 1),
            self._fault(samples, peak_db, over_room_db),
        )
        self._levels_db.extend(
            self._level_db(frame) for frame in list(self._recent_frames)[last + margin :]
        )
        self.rearm()
        self._forget()
        return take

    def _fault(self, samples: Samples, peak_db: float, over_room_db: float) -> Fault | None:
        assert self._first is not None
        if (self._last_speech - self._first) * _FRAME_S > self.longest_s:
            return "too long"
        if self._first <= self._armed_at or self._first * _FRAME_S <= _SETTLE_S:
            return "cut off"
        if clipped_frames(samples) > _CLIPPED_SAMPLES:
            return "clipped"
        if over_room_db < _FAINT_OVER_ROOM_DB or peak_db < _FAINT_PEAK_DB:
            return "faint"
        return None

    def _level_db(self, frame: NDArray[np.floating]) -> float:
        """Level of a frame in the speech band, in dB of full scale."""
        spectrum = np.fft.rfft(frame * self._window)
        power = 2 * np.square(np.abs(spectrum[self._band])).sum()
        return decibels(float(np.sqrt(power / (self._size * np.square(self._window).sum()))))

    def _loudness_db(self, samples: Samples) -> float:
        """The level that a tenth of the frames reach."""
        frames = samples.reshape(-1, self._size)
        return float(np.quantile([self._level_db(frame) for frame in frames], 0.9))

    def _forget(self) -> None:
        """Drop frames that neither a margin nor an onset can still need."""
        while len(self._recent_frames) > round(MARGIN_S / _FRAME_S) + 4:
            self._recent_frames.popleft()
