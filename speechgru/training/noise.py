"""Noise to train with: recorded, synthetic, and room noise from around the words of clips."""

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE
from speechgru.corpora.background import NOISE_PARTS
from speechgru.corpora.corpus import Corpus
from speechgru.corpora.derived import DerivedArray
from speechgru.corpora.packed import PackedAudio
from speechgru.model.row_threads import by_rows
from speechgru.training.augmentation import crop_starts, crops_at, uniform

#: RMS of every noise in a bank.
NOISE_RMS = 0.1
#: Seconds of each kind of synthetic noise.
SYNTHETIC_S = 60
#: Recorded noise is added at these speeds, too.
SPEEDS = (0.7, 1.4)
#: Standard deviation, in dB per cosine, of the random filters that change the colour of noise.
FILTER_DB = 8.0
#: At most so many clips give a second of room noise each.
MAX_ROOMS = 1500
#: An edge is room noise if it is this much quieter than the word; otherwise it may be speech.
MAX_ROOM_LEVEL = 10 ** (-25 / 20)
#: Minimum length of an edge, and the part of it next to the word that is not used.
_MIN_EDGE_S, _GUARD_S = 0.12, 0.08
#: Random points between which the level of a noise clip moves, as with steps, clicks and breath.
LEVEL_POINTS = 12
#: Range of the RMS level of noise clips, in dB of full scale.
LEVEL_DB = (-95.0, -15.0)

#: That of loud sounds: as loud as words.
LOUD_DB = (-42.0, -6.0)

#: What `noise_bank` returns, cached.
BANK = DerivedArray("noise", version=2)

Noise = NDArray[np.float64]


def noise_bank(
    corpus: Corpus,
    packed: PackedAudio,
    clips: NDArray[np.int16],
    spans: NDArray[np.int64],
    others: Sequence[Path] = (),
) -> NDArray[np.float32]:
    """Noises of `NOISE_RMS` end to end: (N,) float32, the same for the same recordings.

    The training part of the background recordings, also at other speeds through random filters;
    synthetic noise of many kinds; and room noise from before and after the words of training clips
    (C, S), whose first and last samples are `spans` (C, 2). `others` are recordings of noise from
    outside the corpus.
    """
    rng = np.random.default_rng(0)
    noises = [*recorded_noise(corpus, packed, rng), *synthetic_noise(packed.rate, rng)]
    noises += _with_variants((read(path, packed.rate) for path in others), packed.rate, rng)
    noises += room_noise(clips, spans, packed.rate, rng)
    return np.concatenate([_to_noise_rms(noise) for noise in noises])


def recorded_noise(
    corpus: Corpus, packed: PackedAudio, rng: np.random.Generator
) -> Iterator[Noise]:
    """The training part of each background recording, and variants of it.

    Parts of less than a second follow each other as one.
    """
    first, last = NOISE_PARTS["training"]
    recordings = map(packed.samples, corpus.noises)
    parts = (x[int(first * len(x)) : int(last * len(x))] / FULL_SCALE for x in recordings)
    return _with_variants(_joined(parts, packed.rate), packed.rate, rng)


def _joined(parts: Iterable[Noise], rate: int) -> Iterator[Noise]:
    """Parts of a second or more, then all shorter ones end to end."""
    short = [np.zeros(0)]
    for part in parts:
        if len(part) < rate:
            short.append(part)
        else:
            yield part
    yield np.concatenate(short)


def _with_variants(
    recordings: Iterable[NDArray[np.floating]], rate: int, rng: np.random.Generator
) -> Iterator[Noise]:
    """Each recording of a second or more, and the same at other speeds and with other colours."""
    for part in recordings:
        if len(part) < rate:
            continue
        yield part.astype(np.float64, copy=False)
        for speed in SPEEDS:
            places = np.arange(0, len(part) - 1, speed)
            faster = np.interp(places, np.arange(len(part)), part)
            piece = 4 * rate
            for start in range(0, len(faster), piece):
                yield filtered(faster[start : start + piece][::-1], rng)


def synthetic_noise(rate: int, rng: np.random.Generator) -> Iterator[Noise]:
    """White, pink and brown noise, noise of random colours, hum, and knocks."""
    length = SYNTHETIC_S * rate // 3
    hertz = np.fft.rfftfreq(length, 1 / rate)
    for slope in (0.0, 0.5, 1.0):  # amplitude over frequency, as a power
        spectrum = np.fft.rfft(rng.standard_normal(length)) / np.maximum(hertz, 30.0) ** slope
        yield np.fft.irfft(spectrum, length)
    piece = 2 * rate
    for _ in range(2 * SYNTHETIC_S * rate // piece):
        yield filtered(rng.standard_normal(piece), rng)
    for _ in range(SYNTHETIC_S * rate // piece):
        yield _hum(piece, rate, rng)
    for _ in range(2 * SYNTHETIC_S * rate // piece):
        yield _knocks(piece, rate, rng)


def room_noise(
    clips: NDArray[np.int16], spans: NDArray[np.int64], rate: int, rng: np.random.Generator
) -> Iterator[Noise]:
    """A second of the longer edge of some clips, played forward and backward."""
    length = clips.shape[1]
    ends = np.stack([np.zeros_like(spans[:, 0]), spans[:, 0], spans[:, 1]], axis=1)
    before = ends[:, 1] >= length - ends[:, 2]
    first = np.where(before, 0, ends[:, 2])
    last = np.where(before, ends[:, 1], length)
    guard = round(_GUARD_S * rate)
    first, last = np.where(before, first, first + guard), np.where(before, last - guard, last)
    usable = np.flatnonzero(last - first >= _MIN_EDGE_S * rate)
    for i in rng.permutation(usable)[:MAX_ROOMS]:
        edge = clips[i, first[i] : last[i]] / FULL_SCALE
        word = clips[i, spans[i, 0] : spans[i, 1]] / FULL_SCALE
        if 0 < _rms(edge) < MAX_ROOM_LEVEL * _rms(word):
            back_and_forth = np.concatenate([edge, edge[::-1]])
            yield np.resize(back_and_forth, rate)


def filtered(noise: Noise, rng: np.random.Generator) -> Noise:
    """Noise through a random smooth filter over the octaves: (S,) -> (S,)."""
    spectrum = np.fft.rfft(noise)
    octave = np.log2(1 + np.arange(len(spectrum))) / math.log2(1 + len(spectrum))
    curve_db = sum(
        rng.normal(0, FILTER_DB) * np.cos(math.pi * order * octave + rng.uniform(0, math.pi))
        for order in range(1, 6)
    )
    return np.fft.irfft(spectrum * 10 ** (np.asarray(curve_db) / 20), len(noise))


def _hum(length: int, rate: int, rng: np.random.Generator) -> Noise:
    """Harmonics of a low tone that may slide, like a motor; higher ones might pass for a word."""
    time = np.arange(length) / rate
    pitch_hz = 10 ** rng.uniform(math.log10(40), math.log10(160))
    slide = 2 ** (rng.normal(0, 0.3) * np.linspace(-0.5, 0.5, length) * rng.integers(0, 2))
    phase = 2 * math.pi * np.cumsum(pitch_hz * slide) / rate
    tones = sum(
        rng.uniform() ** 2 / order * np.sin(order * phase + rng.uniform(0, 6.3))
        for order in range(1, int(rng.integers(2, 14)))
    )
    pulse = 1 + rng.uniform() * np.sin(2 * math.pi * rng.uniform(0.5, 12) * time)
    return np.asarray(tones) * pulse + 0.02 * rng.uniform() * rng.standard_normal(length)


def _knocks(length: int, rate: int, rng: np.random.Generator) -> Noise:
    """Decaying bursts, like doors, keys, steps and dishes, over a faint hiss."""
    noise = 0.01 * rng.uniform() * rng.standard_normal(length)
    decay_s = 10 ** rng.uniform(-2.5, -0.7)
    for start in rng.integers(0, length, rng.integers(1, 16)):
        burst = filtered(rng.standard_normal(min(length - start, rate // 2) + 2), rng)
        burst = burst[: length - start] * np.exp(
            -np.arange(len(burst[: length - start])) / (decay_s * rate)
        )
        noise[start : start + len(burst)] += rng.uniform(0.2, 1) * burst
    return noise


def _to_noise_rms(noise: Noise) -> NDArray[np.float32]:
    return (noise * (NOISE_RMS / max(_rms(noise), 1e-9))).astype(np.float32)


def _rms(samples: Noise) -> float:
    return math.sqrt(np.square(samples).mean())


def noise_clips(
    bank: Tensor, count: int, length: int, generator: torch.Generator, rows: Tensor | None = None
) -> Tensor:
    """Crops of a bank at random levels, half of them rising and falling: (count, length).

    With `rows` (N,) only those are computed, the same as if all were: (N, length).
    """
    starts = crop_starts(bank, count, length, generator)
    level_db = uniform((count, 1), *LEVEL_DB, bank, generator)
    points = uniform((count, LEVEL_POINTS), 0, 1, bank, generator).square()
    moves = uniform((count, 1), 0, 1, bank, generator) < 0.5
    numbers = [starts, level_db, points, moves]
    if rows is not None:
        numbers = [number[rows] for number in numbers]

    def make(starts: Tensor, level_db: Tensor, points: Tensor, moves: Tensor) -> Tensor:
        level = 10 ** (level_db / 20) / NOISE_RMS * moving_level(points, moves, length)
        return crops_at(bank, starts, length).float() * level

    return by_rows(make, *numbers)


def sound_bank(recordings: Sequence[Path], rate: int) -> NDArray[np.float32]:
    """Recordings of everyday sounds, and variants of them, at `NOISE_RMS` end to end: (N,)."""
    rng = np.random.default_rng(0)
    sounds = _with_variants((read(path, rate) for path in recordings), rate, rng)
    return np.concatenate([_to_noise_rms(sound) for sound in sounds])


def with_sounds(
    noise: Tensor, bank: Tensor, share: float, count: int, generator: torch.Generator, rows: Tensor
) -> Tensor:
    """Clips of noise (N, S), a share of them replaced by loud crops of a bank of sounds: (N, S).

    They are the `rows` (N,) of `count` clips, the same as if all were computed.
    """
    length = noise.shape[1]
    starts = crop_starts(bank, count, length, generator)
    level_db = uniform((count, 1), *LOUD_DB, bank, generator)
    chosen = uniform((count, 1), 0, 1, bank, generator) < share

    def make(noise: Tensor, starts: Tensor, level_db: Tensor, chosen: Tensor) -> Tensor:
        sounds = crops_at(bank, starts, length).float() * 10 ** (level_db / 20) / NOISE_RMS
        return torch.where(chosen, sounds.clamp(-1, 1), noise)

    return by_rows(make, noise, starts[rows], level_db[rows], chosen[rows])


def moving_level(points: Tensor, moves: Tensor, length: int) -> Tensor:
    """Levels (B, P), connected by lines, of rows that move (B, 1); 1 in others: (B, length)."""
    moving = functional.interpolate(points[:, None], size=length, mode="linear").squeeze(1)
    return torch.where(moves, moving, 1.0)
