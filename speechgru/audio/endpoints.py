"""Where a word begins and ends in a stream, by its level in the band of speech."""

from collections import deque
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.levels import clipped_frames, decibels
from speechgru.audio.samples import Samples

#: What is wrong with a take; None where nothing is.
Fault = Literal["clipped", "faint", "cut off", "too long"]

_FRAME_S = 0.02
#: Thumps, hum and rumble lie below it; an "s" lies high in it.
_BAND_HZ = (250.0, 7_000.0)
#: A word begins where three of four frames rise so much over the room's level, and lies where
#: they are this much over it; below the second no frame is speech.
_ONSET_DB, _HOLD_DB, _LOWEST_DB = 10.0, 6.0, -65.0
#: A room that is louder would drown the words: what is louder from the start on is speech.
_LOUDEST_ROOM_DB = -38.0
#: The room's level is the lower quartile of the last seconds; so much is heard before a word may
#: begin, as the level is not known yet.
_ROOM_S, _SETTLE_S, _QUARTILE = 3.0, 0.3, 0.25
#: Shorter is a click. A pause inside a phrase, as before the t of "right", is shorter than the end.
_SHORTEST_S = 0.1
#: Kept before and after what is spoken.
MARGIN_S = 0.15
#: A take that is this little over the room, or whose loudest sample is this low, is faint.
_FAINT_OVER_ROOM_DB, _FAINT_PEAK_DB = 12.0, -36.0
#: More samples at full scale than this are heard as distortion.
_CLIPPED_SAMPLES = 4


@dataclass(frozen=True)
class Take:
    """A word or phrase that was spoken: (S,) with `MARGIN_S` on either side, and its fault.

    Times are those of the stream. `over_room_db` is how much louder than the room it is.
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
        end_s: a word is over after so much quiet.
        longest_s: what goes on for longer is too long.
    """

    def __init__(self, rate: int, end_s: float = 0.5, longest_s: float = 4.0) -> None:
        self.rate, self.end_s, self.longest_s = rate, end_s, longest_s
        self._size = round(_FRAME_S * rate)
        hertz = np.fft.rfftfreq(self._size, 1 / rate)
        self._band = (hertz >= _BAND_HZ[0]) & (hertz <= _BAND_HZ[1])
        self._window = np.hanning(self._size)
        self._levels_db: deque[float] = deque(maxlen=round(_ROOM_S / _FRAME_S))
        #: Level of the last frame in the band of speech, for a meter.
        self.level_db = decibels(0.0)
        self._rest = np.zeros(0, np.float32)
        self._kept: deque[Samples] = deque()
        self._frames = 0
        self.rearm()

    def rearm(self) -> None:
        """Wait for the next word, which must not have begun yet; the room's level stays known."""
        self._armed_at = self._frames
        self._recent: deque[bool] = deque(maxlen=4)
        self._first: int | None = None
        self._last_speech = self._frames

    @property
    def time_s(self) -> float:
        """Seconds of the stream that were heard."""
        return self._frames * _FRAME_S

    @property
    def room_db(self) -> float:
        """The room's level in the band of speech."""
        if not self._levels_db:
            return _LOWEST_DB
        level_db = float(np.quantile(list(self._levels_db), _QUARTILE))
        return min(max(level_db, _LOWEST_DB), _LOUDEST_ROOM_DB)

    @property
    def is_speaking(self) -> bool:
        """Whether a word has begun and is not over."""
        return self._first is not None

    def push(self, samples: Samples) -> list[Take]:
        """The next samples, (S,); gives the takes that are over."""
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
        """The stream is over: a word that goes on is a take, without all of its margin."""
        return [self._finish()] if self._first is not None else []

    def _push_frame(self, frame: Samples) -> Take | None:
        self._kept.append(frame)
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
        oldest = self._frames - len(self._kept)
        margin = round(MARGIN_S / _FRAME_S)
        start = max(oldest, self._first - margin)
        stop = min(self._frames, self._last_speech + margin)
        samples = np.concatenate(list(self._kept)[start - oldest : stop - oldest])
        first, last = self._first - oldest, self._last_speech - oldest
        spoken = np.concatenate(list(self._kept)[first : max(last, first + 1)])
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
        self._levels_db.extend(self._level_db(frame) for frame in list(self._kept)[last + margin :])
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
        """Level of a frame in the band of speech, dB of full scale."""
        spectrum = np.fft.rfft(frame * self._window)
        power = 2 * np.square(np.abs(spectrum[self._band])).sum()
        return decibels(float(np.sqrt(power / (self._size * np.square(self._window).sum()))))

    def _loudness_db(self, samples: Samples) -> float:
        """The level that the loudest tenth of its frames reach."""
        frames = samples.reshape(-1, self._size)
        return float(np.quantile([self._level_db(frame) for frame in frames], 0.9))

    def _forget(self) -> None:
        """Keep what a margin, and the frames that an onset needs, may still take."""
        while len(self._kept) > round(MARGIN_S / _FRAME_S) + 4:
            self._kept.popleft()
