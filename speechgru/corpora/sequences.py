"""Strings to score: words of a split spoken one soon after the other, each string by itself."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.pcm import FULL_SCALE, Packed, to_packed
from speechgru.corpora.background import Background
from speechgru.corpora.corpus import SPLITS, Example
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import TAIL_S, leveled
from speechgru.corpora.word_bounds import word_span
from speechgru.errors import DataError, UsageError
from speechgru.labels import NOT_WORDS

#: Background alone before the first word.
LEAD_S = 0.5
#: What is kept of a clip before and after its word, and faded there.
_MARGIN_S = 0.02


@dataclass(frozen=True)
class StringPlan:
    """How strings are made; the same plan and clips give the same strings.

    Args:
        words: from, to: words in a string, drawn for each.
        gap_s: from, to: from a word's end to the next one's start, drawn for each.
        snr_db: from, to: how much louder than the background a string's words are.

    Raises:
        UsageError: a value out of range.
    """

    words: tuple[int, int] = (3, 7)
    gap_s: tuple[float, float] = (0.0, 0.3)
    snr_db: tuple[float, float] = (20.0, 30.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.words[0] <= self.words[1] <= 1000:
            low, high = self.words
            raise UsageError(f"words {low}:{high}: LOW:HIGH from 1 to 1000 is needed")
        if not 0 <= self.gap_s[0] <= self.gap_s[1] <= 60:
            low_s, high_s = self.gap_s
            raise UsageError(f"gap {low_s:g}:{high_s:g}: LOW:HIGH from 0 to 60 s is needed")
        if not -20 <= self.snr_db[0] <= self.snr_db[1] <= 60:
            low_db, high_db = self.snr_db
            raise UsageError(f"snr {low_db:g}:{high_db:g}: LOW:HIGH from -20 to 60 dB is needed")


@dataclass(frozen=True, eq=False)
class SpokenString:
    """Words one after the other, (S,) 16 bits; `speaker` is "" where there are several, or none."""

    samples: Packed
    rate: int
    speaker: str
    words: tuple[str, ...]


class Strings:
    """The words of a split in strings, each clip once; a string is made where it is asked for.

    A string is spoken by one speaker. What a speaker has left for no whole string is put into
    strings of several.

    Raises:
        DataError: the split has fewer words than one string.
    """

    def __init__(self, audio: SplitAudio, plan: StringPlan) -> None:
        self.audio, self.plan = audio, plan
        self._clips = deal(audio, plan)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> SpokenString:
        clips = self._clips[number]
        rng = np.random.default_rng([self.plan.seed, SPLITS.index(self.audio.split), number])
        speakers = {clip.speaker for clip in clips}
        return SpokenString(
            to_packed(_spoken(self.audio, clips, self.plan, rng)),
            self.audio.packed.rate,
            speakers.pop() if len(speakers) == 1 else "",
            tuple(clip.label for clip in clips),
        )


def deal(audio: SplitAudio, plan: StringPlan) -> list[list[Example]]:
    """The clips of words in strings, each once, speaker by speaker, the mixed strings last.

    Raises:
        DataError: there are too few for one string.
    """
    rng = np.random.default_rng([plan.seed, SPLITS.index(audio.split)])
    by_speaker: dict[str, list[Example]] = defaultdict(list)
    for example in audio.task.split(audio.split):
        if example.label not in NOT_WORDS and example.path is not None:
            by_speaker[example.speaker].append(example)
    strings: list[list[Example]] = []
    left_over: list[Example] = []
    for _, clips in sorted(by_speaker.items()):
        dealt, rest = _deal_out(clips, plan.words, rng)
        strings += dealt
        left_over += rest
    strings += _deal_out(left_over, plan.words, rng)[0]
    if not strings:
        words = sum(map(len, by_speaker.values()))
        raise DataError(
            f"{audio.task.protocol}: the {audio.split} split has {words} clips of words; a string "
            f"needs {plan.words[0]}"
        )
    return strings


def _deal_out(
    clips: Sequence[Example], words: tuple[int, int], rng: np.random.Generator
) -> tuple[list[list[Example]], list[Example]]:
    """Shuffled clips in strings of random lengths, and what is left for none."""
    shuffled = [clips[i] for i in rng.permutation(len(clips))]
    low, high = words
    strings = []
    while left := len(shuffled):
        counts = [count for count in range(low, high + 1) if count <= left]
        if not counts:
            break
        # What is left after it should be a string too.
        good = [count for count in counts if left - count == 0 or left - count >= low]
        count = int(rng.choice(good or counts))
        strings.append(shuffled[:count])
        shuffled = shuffled[count:]
    return strings, shuffled


def _spoken(
    audio: SplitAudio, clips: Sequence[Example], plan: StringPlan, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Words with gaps over background noise: (S,)."""
    rate, margin = audio.packed.rate, round(_MARGIN_S * audio.packed.rate)
    snr_db = rng.uniform(*plan.snr_db)
    placed: list[tuple[int, NDArray[np.float64]]] = []
    now = round(LEAD_S * rate)
    for clip in clips:
        assert clip.path is not None
        samples = audio.packed.samples(clip.path) / FULL_SCALE
        start, end = (round(second * rate) for second in word_span(samples, rate))
        first, last = max(0, start - margin), min(len(samples), end + margin)
        cut = leveled(
            samples[first:last], (start - first) / rate, (end - first) / rate, snr_db, rate
        )
        placed.append((now - (start - first), cut))
        now += end - start + round(rng.uniform(*plan.gap_s) * rate)
    total = max(first + len(cut) for first, cut in placed) + round(TAIL_S * rate)
    string = Background(audio, rng).take(total)
    for first, cut in placed:
        string[first : first + len(cut)] += cut
    return string
