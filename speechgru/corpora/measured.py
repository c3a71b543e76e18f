"""What a recording holds: its peak, length and channels, and what is wrong with the file itself."""

import hashlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.containers import incomplete_ogg
from speechgru.audio.files import NotScaledError, TooLongError, limited_blocks, probe
from speechgru.errors import DataError

FULL_SCALE = 0.999
#: A word is cut off where the recording's first or last frame is at most so far below its loudest.
FRAME_S = 0.02
BEGIN_DB, END_DB = 6.0, 10.0
#: There is a word if the loudest frame is so far above the quietest tenth.
WORD_DB = 20.0


class Measured(NamedTuple):
    """What a file holds; `fault` is a kind of error if it cannot be used."""

    fault: str = ""
    detail: str = ""
    rate: int = 0
    duration_s: float = 0.0
    peak: float = 0.0
    clipped_share: float = 0.0
    cut_off: tuple[str, ...] = ()
    loudest_channel: int = 1
    lost_db: float = 0.0
    digest: bytes = b""
    incomplete: str = ""
    #: The probability that there is speech in it; None: not asked.
    speech: float | None = None
    #: Of noise: the largest share of a few seconds in which somebody talks, and where they start.
    talk: tuple[float, float] = (0.0, 0.0)


def measure(path: Path, has_word: bool = True) -> Measured:
    """Decode a recording; whether a word in it is cut off is measured only if it may hold one."""
    digest = hashlib.blake2b(digest_size=16)
    samples = bad = clipped = values = rate = 0
    peak, mixed_power, power = 0.0, 0.0, np.zeros(1)
    levels = _FrameLevels() if has_word else None
    try:
        for frames, block_rate in limited_blocks(path):
            mixed, level = frames.mean(axis=1), np.abs(frames)
            finite = np.isfinite(mixed)
            bad += int(np.count_nonzero(~finite))
            rate, samples, values = block_rate, samples + len(mixed), values + level.size
            peak = max(peak, float(np.abs(mixed[finite]).max(initial=0.0)))
            clipped += int(np.count_nonzero(level >= FULL_SCALE))
            power = power + np.square(frames[finite], dtype=np.float64).sum(axis=0)
            mixed_power += float(np.square(mixed[finite], dtype=np.float64).sum())
            digest.update(mixed.tobytes())
            if levels is not None:
                levels.add(mixed, rate)
    except DataError as error:
        return Measured(_fault(path, error), str(error).removeprefix(f"{path}: "))
    if bad:
        return Measured("not_finite", f"{bad:,} of {samples:,} samples are not finite")
    lost_db = 10 * np.log10(max(power.max(), 1e-20) / max(mixed_power, 1e-20))
    return Measured(
        rate=rate,
        duration_s=samples / rate,
        peak=peak,
        clipped_share=clipped / values,
        cut_off=levels.cut_off() if levels is not None else (),
        loudest_channel=int(power.argmax()) + 1,
        lost_db=float(lost_db),
        digest=digest.digest(),
        incomplete=incomplete_ogg(path),
    )


class _FrameLevels:
    """The mean power of each frame of a recording, block by block."""

    def __init__(self) -> None:
        self._powers: list[NDArray[np.float64]] = []
        self._rest = np.zeros(0)

    def add(self, samples: NDArray[np.floating], rate: int) -> None:
        """The next block, (S,)."""
        joined = np.concatenate([self._rest, samples])
        frame = max(1, round(FRAME_S * rate))
        whole = len(joined) // frame * frame
        self._powers.append(np.square(joined[:whole].reshape(-1, frame)).mean(axis=1))
        self._rest = joined[whole:]

    def cut_off(self) -> tuple[str, ...]:
        """Where the word is nearly as loud at the recording's border as anywhere: in words.

        Digital silence at the borders does not count, and what varies little has no word to cut.
        """
        power = np.concatenate(self._powers)
        sounding = np.flatnonzero(power)
        if not len(sounding):
            return ()
        power = power[sounding[0] : sounding[-1] + 1]
        peak = power.max()
        if np.quantile(power, 0.1) > peak * 10 ** (-WORD_DB / 10):
            return ()
        begins, ends = (peak * 10 ** (-db / 10) for db in (BEGIN_DB, END_DB))
        where = {"at its beginning": power[0] >= begins, "at its end": power[-1] >= ends}
        return tuple(place for place, is_cut in where.items() if is_cut)


def _fault(path: Path, error: DataError) -> str:
    """The kind of error of a file that cannot be decoded."""
    if isinstance(error, TooLongError):
        return "too_long"
    if isinstance(error, NotScaledError):
        return "not_scaled"
    if path.is_file() and path.stat().st_size == 0:
        return "empty"
    try:
        return "corrupt" if probe(path).frames else "no_samples"
    except DataError:
        return "corrupt"
