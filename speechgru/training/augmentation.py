"""Augmentation of batches of clips and features, on the device where they are.

There is no Python loop over clips: each function draws random numbers from `generator` and works on
the whole batch.
"""

import math
from functools import partial
from typing import Self

import torch
from pydantic import Field, model_validator
from torch import Tensor
from torch.nn import functional

from speechgru.common.settings import Settings
from speechgru.model.row_threads import by_rows
from speechgru.training.distribution import random_rows

#: Ranges of the lower and the upper end of the band of a telephone or a narrow microphone.
NARROW_LOW_HZ, NARROW_HIGH_HZ = (80.0, 400.0), (2_800.0, 6_500.0)
#: Lengths of Fourier transforms are multiples of this, for which they are fast.
_FFT_STEP = 4096


class AugmentConfig(Settings):
    """How strongly training clips are augmented; 0 turns an augmentation off."""

    #: Largest shift in time, in either direction.
    shift_ms: float = Field(100.0, ge=0.0, le=1000.0)
    #: Largest relative change of speed, and with it of pitch, in either direction.
    speed: float = Field(0.15, ge=0.0, lt=0.9)
    #: Largest change of level, in either direction.
    gain_db: float = Field(10.0, ge=0.0, le=60.0)
    #: Share of clips that get background noise.
    noise_probability: float = Field(0.8, ge=0.0, le=1.0)
    #: Range of the signal-to-noise ratio: lowest, highest.
    snr_db: tuple[float, float] = (0.0, 30.0)
    #: Share of clips, or of rows of a stream, that are heard in a room, through its echoes.
    room_probability: float = Field(0.0, ge=0.0, le=1.0)
    #: Share of clips, or of rows, that are heard through a telephone or a narrow microphone, with
    #: their noise.
    narrow_probability: float = Field(0.0, ge=0.0, le=1.0)
    #: Size of a smooth random change of the spectrum, as from another microphone or room.
    colour_db: float = Field(3.0, ge=0.0, le=20.0)
    #: Largest stretch of the spectrum along the bands, as from another vocal tract.
    band_warp: float = Field(0.0, ge=0.0, le=0.5)
    #: SpecAugment (Park et al., 2019): masks over time, and their maximum duration.
    time_masks: int = Field(2, ge=0, le=10)
    time_mask_ms: float = Field(150.0, ge=0.0, le=1000.0)
    #: Masks over bands (or cepstra), and the largest share of them that one covers.
    band_masks: int = Field(2, ge=0, le=10)
    band_mask_share: float = Field(0.15, ge=0.0, le=0.9)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.snr_db[0] > self.snr_db[1]:
            raise ValueError(f"snr_db {list(self.snr_db)} must name the lowest ratio first")
        return self


def uniform(
    size: tuple[int, ...], low: float, high: float, like: Tensor, generator: torch.Generator
) -> Tensor:
    """Uniform random numbers from `low` to `high`, on the device of `like`."""
    numbers = random_rows(torch.rand, size, generator, like.device)
    return numbers * (high - low) + low


def warp(samples: Tensor, speed: Tensor, shift_samples: Tensor) -> Tensor:
    """Change the speed of clips around their middle, and shift them: (B, S) -> (B, S).

    By linear interpolation; beyond its ends a clip is silent. `speed`, 2 for twice as fast, and
    `shift_samples`, to a later time, are (B,).
    """
    length = samples.shape[1]
    time = torch.arange(length, device=samples.device) - (length - 1) / 2
    return by_rows(partial(_warp, time), samples, speed, shift_samples)


def _warp(time: Tensor, samples: Tensor, speed: Tensor, shift_samples: Tensor) -> Tensor:
    rows, length = samples.shape
    # Each clip is padded with a zero on either side, so that indices start at 1.
    start = 1 + (length - 1) / 2 - shift_samples * speed
    # Not `addcmul`, which takes four times as long to broadcast one number over a row.
    source = (time * speed[:, None]).add_(start[:, None]).clamp_(0, length + 1)  # (B, S)
    # `index_select` by 32-bit indices takes half the time of `gather` by 64-bit ones.
    row = torch.arange(rows, device=samples.device, dtype=torch.int32)
    indices = source.int().add_(row[:, None], alpha=length + 3).view(-1)
    flat = functional.pad(samples, (1, 2)).view(-1)
    before = flat.index_select(0, indices).view_as(samples)
    after = flat[1:].index_select(0, indices).view_as(samples)
    return before.lerp_(after, source.frac_())


def mix_noise(
    samples: Tensor, noise: Tensor, snr_db: Tensor, applied: Tensor, floor: float = 1e-3
) -> Tensor:
    """Add noise at a signal-to-noise ratio, where `applied` (B,) is true: (B, S) -> (B, S).

    An almost silent clip gets as much noise as one with an RMS of `floor`.
    """
    root = math.sqrt(samples.shape[1])
    rms = torch.linalg.vector_norm(samples, dim=1).div_(root).clamp_min_(floor)
    noise_rms = torch.linalg.vector_norm(noise, dim=1).div_(root).clamp_min_(1e-5)
    scale = rms / noise_rms * 10 ** (-snr_db / 20) * applied
    return torch.addcmul(samples, scale[:, None], noise)


def crop_starts(noise: Tensor, count: int, length: int, generator: torch.Generator) -> Tensor:
    """Random starts of crops of `length` in `noise`, recordings end to end, (N,): (count,)."""
    draw = partial(torch.randint, 0, max(1, len(noise) - length))
    return random_rows(draw, (count,), generator, noise.device)


def crops_at(noise: Tensor, starts: Tensor, length: int) -> Tensor:
    """Crops of `noise` (N,) from each of `starts` (B,) on: (B, length)."""
    return noise.unfold(0, length, 1).index_select(0, starts)


def random_time_changes(
    count: int,
    config: AugmentConfig,
    sample_rate: int,
    like: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Random speeds, and shifts in samples, for `warp`: (count,), (count,)."""
    speed = uniform((count,), -config.speed, config.speed, like, generator).add_(1)
    shift = uniform((count,), -1, 1, like, generator) * config.shift_ms * sample_rate / 1000
    return speed, shift


def warp_times(times: Tensor, speed: Tensor, shift_samples: Tensor, length: int) -> Tensor:
    """Where `times`, in samples of clips of `length`, are after `warp`: (B, N) -> (B, N)."""
    middle = (length - 1) / 2
    moved = (times - middle) / speed[:, None] + middle + shift_samples[:, None]
    return moved.clamp(0, length)


def chosen_rows(count: int, probability: float, like: Tensor, generator: torch.Generator) -> Tensor:
    """Random rows out of `count`, each with a probability: their indices, (N,)."""
    return (uniform((count,), 0, 1, like, generator) < probability).nonzero()[:, 0]


def add_rooms(samples: Tensor, rooms: Tensor, choice: Tensor) -> Tensor:
    """What a microphone in a room hears, as loud as before: (B, S) -> (B, S).

    Echoes that last beyond the end of a row are lost.

    Args:
        rooms: impulse responses that begin with the direct sound, so that words stay where they
            are, (N, R).
        choice: the room of each row, (B,).
    """
    if not len(samples):  # which MKL's transform does not take
        return samples
    length = samples.shape[1] + rooms.shape[1]
    fft_samples = math.ceil(length / _FFT_STEP) * _FFT_STEP
    spectrum = torch.fft.rfft(samples, fft_samples)
    spectrum *= torch.fft.rfft(rooms[choice], fft_samples)
    heard = torch.fft.irfft(spectrum, fft_samples)[:, : samples.shape[1]]
    before, after = (torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (samples, heard))
    return heard * (before / after.clamp_min(1e-9))


def limit_band(samples: Tensor, sample_rate: int, low_hz: Tensor, high_hz: Tensor) -> Tensor:
    """Attenuate what lies outside a band of frequencies: (B, S) -> (B, S).

    By 24 dB per octave below `low_hz` (B,), and by 72 above `high_hz` (B,), without delay.
    """
    if not len(samples):
        return samples
    length = samples.shape[1]
    hertz = torch.fft.rfftfreq(length, 1 / sample_rate, device=samples.device)
    low, high = low_hz[:, None] / hertz.clamp_min(1), hertz / high_hz[:, None]
    gain = ((1 + low**8) * (1 + high**24)).rsqrt()
    return torch.fft.irfft(torch.fft.rfft(samples) * gain, length)


def augment_samples(
    samples: Tensor, noise: Tensor | None, config: AugmentConfig, generator: torch.Generator
) -> Tensor:
    """Add background noise and change the gain: (B, S) float -> (B, S).

    `noise` (N,) is the background recordings end to end; None adds none.
    """
    batch, length = samples.shape
    bank = noise if config.noise_probability and noise is not None else samples[:0, 0]
    mixed = len(bank) > length
    starts = snr_db = applied = gain_db = torch.zeros(batch, device=samples.device)
    if mixed:
        starts = crop_starts(bank, batch, length, generator)
        snr_db = uniform((batch,), *config.snr_db, samples, generator)
        applied = uniform((batch,), 0, 1, samples, generator) < config.noise_probability
    if config.gain_db:
        gain_db = uniform((batch,), -config.gain_db, config.gain_db, samples, generator)

    def change(
        samples: Tensor, starts: Tensor, snr_db: Tensor, applied: Tensor, gain_db: Tensor
    ) -> Tensor:
        if mixed:
            samples = mix_noise(samples, crops_at(bank, starts, length).float(), snr_db, applied)
        return (samples * 10 ** (gain_db[:, None] / 20)).clamp_(-1, 1)

    return by_rows(change, samples, starts, snr_db, applied, gain_db)


def swap_halves(samples: Tensor) -> Tensor:
    """Swap the halves of the word in each clip: "left" becomes "ftle". (B, S) -> (B, S).

    The word is taken to be where the middle 96 % of a clip's energy is.
    """
    length = samples.shape[1]
    energy = samples.double().square().cumsum(dim=1)
    energy = energy / energy[:, -1:].clamp_min(1e-12)
    first = (energy < 0.02).sum(dim=1, keepdim=True).clamp(max=length - 2)
    word = ((energy < 0.98).sum(dim=1, keepdim=True).clamp(max=length) - first).clamp_min(2)
    time = torch.arange(length, device=samples.device)
    inside = (time >= first) & (time < first + word)
    return samples.gather(1, torch.where(inside, first + (time - first + word // 2) % word, time))


def colour(features: Tensor, deviation_db: float, generator: torch.Generator) -> Tensor:
    """Add a smooth random curve per clip to log mel spectra: (B, T, F) -> (B, T, F).

    The curve is a sum of the first four cosines over the bands with normally distributed
    amplitudes; its RMS is `deviation_db` decibels of power on average.
    """
    batch, _, bands = features.shape
    orders = torch.arange(1, 5, device=features.device, dtype=features.dtype)
    position = (torch.arange(bands, device=features.device) + 0.5) / bands
    cosines = torch.cos(math.pi * orders[:, None] * position)  # (4, F), each of RMS sqrt(1/2)
    amplitude = random_rows(torch.randn, (batch, 4), generator, features.device)
    scale = deviation_db * math.log(10) / 10 / math.sqrt(2)
    return features + (amplitude @ cosines * scale)[:, None]


def warp_bands(features: Tensor, factor: Tensor) -> Tensor:
    """Stretch log mel spectra along the bands, like a longer or shorter vocal tract.

    Vocal tract length perturbation (Jaitly and Hinton, 2013) on the mel scale: band f gets the
    value of band f * factor, linearly interpolated. (B, T, F), (B,) -> (B, T, F)
    """
    batch, _, bands = features.shape
    position = torch.arange(bands, device=features.device, dtype=features.dtype)
    source = (position * factor[:, None]).clamp_(max=bands - 1)  # (B, F)
    left = source.long().clamp_(max=bands - 2)
    matrix = features.new_zeros(batch, bands, bands)  # column f mixes its two neighbours
    matrix.scatter_(1, left[:, None], (1 - (source - left))[:, None])
    matrix.scatter_add_(1, left[:, None] + 1, (source - left)[:, None])
    return features @ matrix


def mask_features(
    features: Tensor, config: AugmentConfig, frame_ms: float, generator: torch.Generator
) -> Tensor:
    """Apply SpecAugment's masks, filled with the mean, which is zero: (B, T, F) -> (B, T, F)."""
    batch, frames, bands = features.shape
    max_widths = (config.time_mask_ms / frame_ms, config.band_mask_share * bands)
    for axis, size, count, max_width in (
        (1, frames, config.time_masks, max_widths[0]),
        (2, bands, config.band_masks, max_widths[1]),
    ):
        if not count or max_width < 1:
            continue
        width = uniform((batch, count, 1), 0, max_width, features, generator)
        start = uniform((batch, count, 1), 0, 1, features, generator) * (size - width)
        position = torch.arange(size, device=features.device) + 0.5  # the middle of each
        masked = ((position >= start) & (position < start + width)).any(dim=1)  # (B, size)
        features = features * (~masked).unsqueeze(3 - axis)  # faster than masked_fill
    return features
