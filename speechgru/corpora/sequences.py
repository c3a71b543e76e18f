"""Sequences to score: words of a split spoken soon after each other, each sequence by itself."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from speechgru.audio.pcm import FULL_SCALE, Packed, to_packed
from speechgru.corpora.background import Background
from speechgru.corpora.corpus import SPLITS, Example
from speechgru.corpora.split_audio import SplitAudio
from speechgru.corpora.streams import TAIL_S, at_snr, headroom
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, UsageError
from speechgru.labels import NOT_WORDS

#: Background alone before the first word.
LEAD_S = 0.5
#: What remains of a clip before and after its word; faded in and out.
_MARGIN_S = 0.02


@dataclass(frozen=True)
class SequencePlan:
    """How sequences are made; the same plan and clips give the same sequences.

    Args:
        words: range of the number of words in a sequence, drawn for each.
        gap_s: range from a word's end to the start of the next one, drawn for each.
        snr_db: range of how much louder than the background a sequence's words are.

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
class SpokenSequence:
    """Words in a row, (S,) 16 bits; `speaker` is "" where there are several, or it is unknown."""

    samples: Packed
    rate: int
    speaker: str
    words: tuple[str, ...]


class Sequences:
    """The words of a split in sequences, each clip once; a sequence is made when it is asked for.

    A sequence has one speaker. Clips that a speaker has left over, too few for another sequence,
    form sequences of several speakers.

    Raises:
        DataError: the split has too few words for one sequence.
    """

    def __init__(self, audio: SplitAudio, plan: SequencePlan) -> None:
        self.audio, self.plan = audio, plan
        self._clips = group_clips(audio, plan)

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, number: int) -> SpokenSequence:
        clips = self._clips[number]
        rng = np.random.default_rng([self.plan.seed, SPLITS.index(self.audio.split), number])
        speakers = {clip.speaker for clip in clips}
        return SpokenSequence(
            to_packed(_join(self.audio, clips, self.plan, rng)),
            self.audio.packed.rate,
            speakers.pop() if len(speakers) == 1 else "",
            tuple(clip.label for clip in clips),
        )


def group_clips(audio: SplitAudio, plan: SequencePlan) -> list[list[Example]]:
    """The clips of words in sequences, each once, speaker by speaker, the mixed ones last.

    Raises:
        DataError: there are too few for one sequence.
    """
    rng = np.random.default_rng([plan.seed, SPLITS.index(audio.split)])
    by_speaker: dict[str, list[Example]] = defaultdict(list)
    for example in audio.task.split(audio.split):
        if example.label not in NOT_WORDS and example.path is not None:
            by_speaker[example.speaker].append(example)
    sequences: list[list[Example]] = []
    left_over: list[Example] = []
    for _, clips in sorted(by_speaker.items()):
        of_speaker, rest = _group(clips, plan.words, rng)
        sequences += of_speaker
        left_over += rest
    sequences += _group(left_over, plan.words, rng)[0]
    if not sequences:
        words = sum(map(len, by_speaker.values()))
        raise DataError(
            f"{audio.task.protocol}: the {audio.split} split has {words} clips of words; a "
            f"sequence needs {plan.words[0]}"
        )
    return sequences


def _group(
    clips: Sequence[Example], words: tuple[int, int], rng: np.random.Generator
) -> tuple[list[list[Example]], list[Example]]:
    """Shuffled clips in sequences of random lengths, and those left over."""
    shuffled = [clips[i] for i in rng.permutation(len(clips))]
    low, high = words
    sequences = []
    while left := len(shuffled):
        counts = [count for count in range(low, high + 1) if count <= left]
        if not counts:
            break
        # Prefer lengths after which the rest is enough for another sequence, or nothing.
        good = [count for count in counts if left - count == 0 or left - count >= low]
        count = int(rng.choice(good or counts))
        sequences.append(shuffled[:count])
        shuffled = shuffled[count:]
    return sequences, shuffled


def _join(
    audio: SplitAudio, clips: Sequence[Example], plan: SequencePlan, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Words with gaps over background noise: (S,)."""
    rate, margin = audio.packed.rate, round(_MARGIN_S * audio.packed.rate)
    snr_db = rng.uniform(*plan.snr_db)
    placed: list[tuple[int, NDArray[np.float64]]] = []
    position = round(LEAD_S * rate)
    for clip in clips:
        assert clip.path is not None
        samples = audio.packed.samples(clip.path) / FULL_SCALE
        start, end = (round(second * rate) for second in word_bounds_s(samples, rate))
        first, last = max(0, start - margin), min(len(samples), end + margin)
        word = at_snr(
            samples[first:last], (start - first) / rate, (end - first) / rate, snr_db, rate
        )
        placed.append((position - (start - first), word))
        position += end - start + round(rng.uniform(*plan.gap_s) * rate)
    total = max(first + len(word) for first, word in placed) + round(TAIL_S * rate)
    background = Background(audio.packed, audio.corpus.noises, audio.split, rng)
    sequence = background.take(total)
    for first, word in placed:
        sequence[first : first + len(word)] += word
    return headroom(plan.snr_db) * sequence
