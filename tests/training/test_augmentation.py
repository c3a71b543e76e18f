"""Augmentation as physics: a faster tone is higher, noise has the requested level."""

import math

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from speechgru.training.augmentation import (
    AugmentConfig,
    add_rooms,
    augment_samples,
    chosen_rows,
    colour,
    crop_starts,
    crops_at,
    limit_band,
    mask_features,
    mix_noise,
    random_time_changes,
    swap_halves,
    uniform,
    warp,
    warp_bands,
    warp_times,
)

RATE = 16_000
NOTHING = AugmentConfig(
    shift_ms=0, speed=0, gain_db=0, noise_probability=0, colour_db=0, time_masks=0, band_masks=0
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*size: int, seed: int = 1) -> Tensor:
    return 0.1 * torch.randn(size, generator=generator(seed))


def tone(hertz: float, samples: int = RATE) -> Tensor:
    """(1, S)"""
    return 0.5 * torch.sin(2 * torch.pi * hertz * torch.arange(samples) / RATE)[None]


def varied(
    clips: Tensor, sound: Tensor | None, config: AugmentConfig, random: torch.Generator
) -> Tensor:
    """Time changes, then noise and gain: (B, S) -> (B, S)"""
    changes = random_time_changes(len(clips), config, RATE, clips, random)
    return augment_samples(warp(clips, *changes), sound, config, random)


def strongest_hertz(samples: Tensor) -> float:
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    spectrum = torch.fft.rfft(middle * torch.hann_window(len(middle)), n=8 * RATE).abs()
    return spectrum.argmax().item() / 8


@pytest.mark.parametrize("speed", [0.8, 0.9, 1.0, 1.1, 1.25])
def test_speed_scales_the_pitch(speed):
    (warped,) = warp(tone(500), torch.tensor([speed]), torch.zeros(1))
    assert strongest_hertz(warped) == pytest.approx(500 * speed, rel=2e-3)


def test_speed_changes_around_the_middle():
    click = torch.zeros(1, 1_001)
    click[0, [100, 500, 900]] = 1
    faster = warp(click, torch.tensor([1.25]), torch.zeros(1))[0]
    assert faster[500] == 1
    assert faster[500 - 320] == pytest.approx(1, abs=1e-3)
    assert faster[500 + 320] == pytest.approx(1, abs=1e-3)
    assert not faster[:100].any()  # before the clip began
    assert not faster[-100:].any()


def test_warp_times_follows_warp():
    click = torch.zeros(3, 1_001)
    places = torch.tensor([[300.0, 600.0], [100.0, 900.0], [450.0, 500.0]])
    click.scatter_(1, places.long(), 1.0)
    speed, shift = torch.tensor([1.2, 0.9, 0.85]), torch.tensor([50.0, -20.0, 7.0])
    warped = warp(click, speed, shift)
    for row, moved in zip(warped, warp_times(places, speed, shift, 1_001), strict=True):
        found = row.nonzero().flatten()
        for place in moved.clamp(0, 1_000):
            assert (found - place).abs().min() <= 1
    assert warp_times(places, speed, shift + 5_000, 1_001).eq(1_001).all()


@pytest.mark.parametrize("shift", [-700, -1, 0, 1, 1_600])
def test_shift_by_samples_fills_with_silence(shift):
    clips = noise(2, 4_000)
    shifted = warp(clips, torch.ones(2), torch.full((2,), float(shift)))
    expected = torch.zeros_like(clips)
    if shift >= 0:
        expected[:, shift:] = clips[:, : 4_000 - shift]
    else:
        expected[:, :shift] = clips[:, -shift:]
    torch.testing.assert_close(shifted, expected, atol=1e-4, rtol=1e-3)


def test_shift_by_half_a_sample_interpolates():
    clips = noise(1, 400)
    shifted = warp(clips, torch.ones(1), torch.tensor([0.5]))
    torch.testing.assert_close(shifted[:, 1:], (clips[:, 1:] + clips[:, :-1]) / 2)


def test_clips_are_warped_independently():
    clips = noise(3, 2_000)
    speed, shift = torch.tensor([0.9, 1.0, 1.2]), torch.tensor([50.0, -20.0, 0.0])
    together = warp(clips, speed, shift)
    for i in range(3):
        alone = warp(clips[i : i + 1], speed[i : i + 1], shift[i : i + 1])
        torch.testing.assert_close(together[i : i + 1], alone)


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 10.0, 30.0])
def test_noise_has_the_requested_snr(snr_db):
    clips, sound = tone(500).repeat(4, 1) * torch.tensor([0.1, 0.5, 1, 2])[:, None], noise(4, RATE)
    mixed = mix_noise(clips, sound, torch.full((4,), snr_db), torch.ones(4, dtype=torch.bool))
    ratio = clips.square().mean(dim=1) / (mixed - clips).square().mean(dim=1)
    torch.testing.assert_close(10 * ratio.log10(), torch.full((4,), snr_db), atol=0.01, rtol=0)


def test_noise_is_added_only_where_applied():
    clips = noise(3, 1_000)
    applied = torch.tensor([True, False, True])
    mixed = mix_noise(clips, noise(3, 1_000, seed=2), torch.zeros(3), applied)
    assert ((mixed != clips).any(dim=1) == applied).all()
    assert torch.equal(mixed[1], clips[1])


def test_silent_clips_and_silent_noise():
    silent, yes = torch.zeros(1, 1_000), torch.ones(1, dtype=torch.bool)
    mixed = mix_noise(silent, noise(1, 1_000), torch.zeros(1), yes)
    assert mixed.square().mean().sqrt().item() == pytest.approx(1e-3, rel=1e-3)
    clip = noise(1, 1_000)
    assert torch.equal(mix_noise(clip, silent, torch.zeros(1), yes), clip)


def test_crops_are_contiguous():
    sound = torch.arange(1_000.0)
    crops = crops_at(sound, crop_starts(sound, 50, 100, generator()), 100)
    assert crops.shape == (50, 100)
    starts = crops[:, 0]
    torch.testing.assert_close(crops, starts[:, None] + torch.arange(100.0))
    assert len(starts.unique()) > 30
    assert starts.max() < 900
    starts = crop_starts(sound[:100], 2, 100, generator())
    torch.testing.assert_close(crops_at(sound[:100], starts, 100)[1], sound[:100])


def test_uniform_stays_within_its_limits():
    numbers = uniform((10_000,), -2, 6, torch.zeros(1), generator())
    assert -2 <= numbers.min() < -1.9
    assert 5.9 < numbers.max() <= 6
    assert numbers.mean().item() == pytest.approx(2, abs=0.1)


def test_settings_of_zero_change_nothing():
    clips, features = noise(4, 3_200), noise(4, 20, 40)
    assert torch.equal(varied(clips, noise(9_999), NOTHING, generator()), clips)
    assert torch.equal(mask_features(features, NOTHING, 10.0, generator()), features)
    assert torch.equal(colour(features, 0.0, generator()), features)


@pytest.mark.parametrize(
    "config", [AugmentConfig(), AugmentConfig(shift_ms=0, noise_probability=1)]
)
def test_augmentation_depends_only_on_the_generator(config):
    clips, sound, features = noise(4, 3_200), noise(9_999), noise(4, 20, 40)

    def augment_all(seed: int) -> tuple[Tensor, Tensor, Tensor]:
        random = generator(seed)
        return (
            varied(clips, sound, config, random),
            colour(features, config.colour_db, random),
            mask_features(features, config, 10.0, random),
        )

    before = clips.clone()
    torch.manual_seed(1)
    first = augment_all(7)
    torch.manual_seed(2)
    for one, again, other in zip(first, augment_all(7), augment_all(8), strict=True):
        assert torch.equal(one, again)
        assert not torch.equal(one, other)
    assert torch.equal(clips, before)


def test_clips_are_augmented_differently_within_full_scale():
    clips = tone(500).repeat(8, 1)
    found = varied(clips, noise(20_000), AugmentConfig(gain_db=30), generator())
    assert found.abs().max() == 1
    for i in range(1, 8):
        assert not torch.allclose(found[0], found[i], atol=1e-3)


def test_range_of_the_shift():
    config = NOTHING.model_copy(update={"shift_ms": 50.0})
    click = torch.zeros(500, 4_000)
    click[:, 2_000] = 1
    moved = varied(click, None, config, generator()).argmax(dim=1) - 2_000
    assert 700 < moved.max() <= 800
    assert -800 <= moved.min() < -700


def test_range_of_the_speed():
    config = NOTHING.model_copy(update={"speed": 0.2})
    clips = tone(500).repeat(40, 1)
    hertz = [strongest_hertz(c) for c in varied(clips, None, config, generator())]
    assert 400 * 0.99 < min(hertz) < 420
    assert 580 < max(hertz) < 600 * 1.01


def test_range_of_the_gain():
    config = NOTHING.model_copy(update={"gain_db": 6.0})
    clips = noise(500, 100) / 10
    gain = varied(clips, None, config, generator()) / clips
    torch.testing.assert_close(gain, gain[:, :1].expand_as(gain), atol=1e-4, rtol=1e-3)
    gain_db = 20 * gain[:, 0].log10()
    assert -6.01 <= gain_db.min() < -5.8
    assert 5.8 < gain_db.max() <= 6.01


def test_frequency_and_level_of_noise():
    config = NOTHING.model_copy(update={"noise_probability": 0.7, "snr_db": (5.0, 15.0)})
    clips = tone(500, 1_000).repeat(2_000, 1) / 10
    added = varied(clips, noise(20_000), config, generator()) - clips
    power = added.square().mean(dim=1)
    noisy = power > 0
    assert noisy.float().mean().item() == pytest.approx(0.7, abs=0.04)
    snr_db = 10 * (clips.square().mean(dim=1) / power)[noisy].log10()
    assert 4.99 < snr_db.min() < 5.2
    assert 14.8 < snr_db.max() < 15.01


def test_noise_shorter_than_a_clip_is_not_used():
    config = NOTHING.model_copy(update={"noise_probability": 1.0})
    clips = noise(2, 1_000)
    assert torch.equal(varied(clips, noise(999), config, generator()), clips)


def test_colour_is_one_smooth_curve_per_clip():
    features = noise(2_000, 3, 40)
    curve = colour(features, 3.0, generator()) - features
    torch.testing.assert_close(curve, curve[:, :1].expand_as(curve), atol=1e-4, rtol=0)
    curve_db = curve[:, 0] * 10 / math.log(10)
    # The four cosines' amplitudes are normal: mean square 4 * (3^2 / 2) * (1 / 2) = 3^2.
    assert curve_db.square().mean().sqrt().item() == pytest.approx(3.0, rel=0.03)
    assert curve_db.mean(dim=1).abs().max() < 1e-4  # no change of level
    # The highest of four cosines over 40 bands turns by pi * 4 / 40 a band.
    steepest = curve_db.diff(dim=1).square().mean() / curve_db.square().mean()
    assert steepest < (math.pi * 4 / 40) ** 2


def test_swap_halves():
    """Silence, 100 samples of one tone, 100 of another, silence."""
    clip = torch.zeros(1, 1_000)
    low, high = tone(400, 100)[0], tone(2_000, 100)[0]
    clip[0, 300:500] = torch.cat([low, high])
    (swapped,) = swap_halves(clip)
    assert not swapped[:300].any()
    assert not swapped[500:].any()
    expected, found = torch.cat([high, low]), swapped[310:390]
    # The word's bounds are estimated to a few samples.
    moved = [expected[10 + by : 90 + by] for by in range(-8, 9)]
    assert max(torch.corrcoef(torch.stack([found, part]))[0, 1] for part in moved) > 0.95
    torch.testing.assert_close(swapped.square().sum(), clip.square().sum())


@pytest.mark.parametrize("clip", [torch.zeros(1, 50), torch.ones(1, 50), torch.eye(1, 50)])
def test_swap_halves_without_a_word(clip):
    assert sorted(swap_halves(clip)[0].tolist()) == sorted(clip[0].tolist())


def test_halves_are_swapped_per_clip():
    clips = noise(3, 500) * torch.linspace(0, 1, 500)
    together = swap_halves(clips)
    for i in range(3):
        assert torch.equal(together[i : i + 1], swap_halves(clips[i : i + 1]))


def test_warp_bands_moves_a_peak_by_the_factor():
    bands = torch.arange(40.0)
    peak = torch.exp(-((bands - 20) ** 2) / 8).expand(3, 2, 40)
    stretched = warp_bands(peak, torch.tensor([0.9, 1.0, 1.25]))
    assert torch.equal(stretched[1], peak[1])
    for clip, factor in zip(stretched, (0.9, 1.0, 1.25), strict=True):
        place = (clip * bands).sum(dim=1) / clip.sum(dim=1)
        torch.testing.assert_close(place, torch.full((2,), 20 / factor), atol=0.2, rtol=0)


def test_warp_bands_interpolates_linearly():
    features = torch.arange(10.0).expand(1, 1, 10)
    stretched = warp_bands(features, torch.tensor([1.1]))[0, 0]
    torch.testing.assert_close(stretched, (torch.arange(10.0) * 1.1).clamp(max=9))


def runs(masked: Tensor) -> list[int]:
    """Lengths of the masked stretches."""
    text = "".join("x" if m else " " for m in masked.tolist())
    return [len(run) for run in text.split()]


def test_mask_is_one_stretch_of_limited_width():
    config = AugmentConfig(time_masks=1, time_mask_ms=100, band_masks=1, band_mask_share=0.2)
    features = torch.ones(400, 50, 30)
    masked = mask_features(features, config, 10.0, generator()) == 0
    for axis, longest in ((1, 10), (2, 6)):
        lengths = []
        for clip in masked:
            stretch = runs(clip.all(dim=2 - axis))
            assert len(stretch) <= 1
            lengths += stretch
        assert max(lengths) == longest
        # Uniform from 0 to the longest, but the stretches of no frame at all.
        assert sum(lengths) / len(masked) == pytest.approx(longest / 2, rel=0.1)
        assert set(lengths) == set(range(1, longest + 1))


def test_number_and_positions_of_masks():
    config = AugmentConfig(time_masks=3, time_mask_ms=50, band_masks=0)
    masked = mask_features(torch.ones(2_000, 40, 5), config, 10.0, generator()) == 0
    in_time = masked.all(dim=2)
    assert (masked.any(dim=2) == in_time).all()
    assert max(len(runs(clip)) for clip in in_time) == 3
    hits = in_time.float().mean(dim=0)
    assert hits.min() > 0.02
    assert in_time.sum(dim=1).max() <= 15


@pytest.mark.parametrize("size", [(2, 3, 40), (2, 40, 2), (2, 1, 1)])
def test_masks_wider_than_the_features(size):
    config = AugmentConfig(time_mask_ms=1_000, band_mask_share=0.9)
    masked = mask_features(torch.ones(size), config, 10.0, generator())
    assert masked.shape == size
    assert set(masked.unique().tolist()) <= {0.0, 1.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"speed": 0.9},
        {"gain_db": -1.0},
        {"noise_probability": 1.1},
        {"snr_db": (1.0,)},
        {"snr_db": (30.0, 0.0)},
        {"snr_db": (0.0, float("inf"))},
        {"shift_ms": float("nan")},
        {"pitch": 0.1},
    ],
)
def test_invalid_settings_are_refused(wrong):
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        AugmentConfig(**wrong)


def test_rooms_echo_what_was_said_and_leave_the_level_alone():
    rooms = torch.zeros(2, 400)
    rooms[0, 0], rooms[1, 0], rooms[1, 300] = 1.0, 1.0, 0.5
    clips = torch.zeros(2, RATE)
    clips[:, 1000:1200] = noise(200)
    heard = add_rooms(clips, rooms, torch.tensor([1, 0]))
    torch.testing.assert_close(heard[1], clips[1], atol=1e-6, rtol=0)
    torch.testing.assert_close(heard.norm(dim=1), clips.norm(dim=1))
    torch.testing.assert_close(heard[0, 1300:1500], 0.5 * heard[0, 1000:1200], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("hertz", "lowest_db", "highest_db"),
    [(60, -100, -30), (1_000, -0.5, 0.1), (2_900, -4, -0.5), (5_000, -100, -30)],
)
def test_narrow_microphone_passes_its_band(hertz, lowest_db, highest_db):
    clip = tone(hertz)
    heard = limit_band(clip, RATE, torch.tensor([200.0]), torch.tensor([3_000.0]))
    change_db = 20 * torch.log10(heard[:, 2000:-2000].norm() / clip[:, 2000:-2000].norm()).item()
    assert lowest_db <= change_db <= highest_db


def test_chosen_rows_have_their_probability():
    like = torch.zeros(1)
    assert len(chosen_rows(50, 0.0, like, generator())) == 0
    assert chosen_rows(50, 1.0, like, generator()).tolist() == list(range(50))
    assert 2_800 < len(chosen_rows(10_000, 0.3, like, generator())) < 3_200


def test_no_row_is_changed_to_no_row():
    nothing = torch.zeros(0, 800)
    assert add_rooms(nothing, torch.ones(1, 100), torch.zeros(0, dtype=torch.long)).shape == (
        0,
        800,
    )
    assert limit_band(nothing, RATE, torch.zeros(0), torch.zeros(0)).shape == (0, 800)
