"""Noise for training: recorded, synthetic and from rooms, at any level."""

import math

import numpy as np
import pytest
import soundfile
import torch
from tones import tone

from speechgru.corpora import open_corpus, pack
from speechgru.corpora.word_bounds import word_spans
from speechgru.training.noise import (
    LEVEL_DB,
    LEVEL_POINTS,
    LOUD_DB,
    NOISE_RMS,
    moving_level,
    noise_bank,
    noise_clips,
    recorded_noise,
    room_noise,
    sound_bank,
    synthetic_noise,
    with_sounds,
)

RATE = 16_000


@pytest.fixture
def corpus(tmp_path):
    for word in ("low", "mid"):
        (tmp_path / word).mkdir()
        for speaker in "abc":
            soundfile.write(tmp_path / word / f"{speaker}.wav", tone(word, ord(speaker)), RATE)
    (tmp_path / "_background_noise_").mkdir()
    ramp = np.linspace(0, 0.9, 2 * RATE)
    soundfile.write(tmp_path / "_background_noise_" / "ramp.wav", ramp, RATE, "PCM_16")
    return open_corpus(tmp_path)


def test_recorded_noise_and_its_variants(corpus):
    first, *others = recorded_noise(corpus, pack(corpus), np.random.default_rng(0))
    assert len(first) == 0.8 * 2 * RATE
    np.testing.assert_allclose(first, np.linspace(0, 0.9, 2 * RATE)[: len(first)], atol=1e-4)
    lengths = sorted(len(other) / len(first) for other in others)
    assert lengths == pytest.approx([1 / 1.4, 1 / 0.7], rel=1e-3)


def test_short_recordings_of_noise_follow_each_other(corpus):
    """After those of which a second or more is for training."""
    for number in range(3):
        room = np.full(RATE, 0.1 * (number + 1))
        soundfile.write(corpus.noises[0].with_name(f"room_{number}.wav"), room, RATE, "PCM_16")
    corpus = open_corpus(corpus.root)
    ramp, _, _, rooms, *others = recorded_noise(corpus, pack(corpus), np.random.default_rng(0))
    assert len(ramp) == 0.8 * 2 * RATE
    expected = np.repeat([0.1, 0.2, 0.3], round(0.8 * RATE))
    np.testing.assert_allclose(rooms, expected, atol=1e-4)
    assert len(others) == 2


def test_too_little_recorded_noise_is_not_used(corpus):
    ramp = corpus.noises[0]
    soundfile.write(ramp, np.linspace(0, 0.9, RATE), RATE, "PCM_16")
    corpus = open_corpus(corpus.root)
    assert not list(recorded_noise(corpus, pack(corpus), np.random.default_rng(0)))


def test_synthetic_noise_starts_with_three_colours():
    noises = list(synthetic_noise(RATE, np.random.default_rng(0)))
    tilts = []
    for noise in noises[:3]:
        power = np.square(np.abs(np.fft.rfft(noise)))
        hertz = np.fft.rfftfreq(len(noise), 1 / RATE)
        low, high = (power[(hertz > f) & (hertz < 2 * f)].mean() for f in (200, 3_200))
        tilts.append(10 * math.log10(low / high) / 4)  # dB an octave
    assert tilts == pytest.approx([0, 3, 6], abs=0.3)
    assert all(np.isfinite(noise).all() and noise.any() for noise in noises)


def test_room_noise_comes_from_around_the_word():
    """The word is loud, and the room hisses faintly around it."""
    random = np.random.default_rng(0)
    clip = random.normal(0, 30, RATE)
    clip[8_000:12_000] += 10_000 * np.sin(np.arange(4_000))
    clips = clip[np.newaxis].astype(np.int16)
    (room,) = room_noise(clips, word_spans(clips, RATE), RATE, random)
    assert len(room) == RATE
    assert np.abs(room).max() < 200 / 32768
    near = round(0.08 * RATE)  # the distance kept from the word
    np.testing.assert_array_equal(room[: 8_000 - near], clips[0, : 8_000 - near] / 32768)


def test_loud_edge_is_not_room_noise():
    """It may be another word."""
    random = np.random.default_rng(0)
    clip = random.normal(0, 30, RATE)
    clip[8_000:12_000] += 10_000 * np.sin(np.arange(4_000))
    clip[1_000:2_000] += 3_000 * np.sin(np.arange(1_000))
    clips = clip[np.newaxis].astype(np.int16)
    assert not list(room_noise(clips, np.array([[8_000, 12_000]]), RATE, random))


def test_noise_bank_is_level_and_deterministic(corpus, monkeypatch):
    monkeypatch.setattr("speechgru.training.noise.SYNTHETIC_S", 12)
    packed = pack(corpus)
    clips = np.stack([packed.samples(clip.path)[:RATE] for clip in corpus.clips])
    spans = word_spans(clips, RATE)
    bank = noise_bank(corpus, packed, clips, spans)
    np.testing.assert_array_equal(bank, noise_bank(corpus, packed, clips, spans))
    assert np.isfinite(bank).all()
    seconds = bank[: len(bank) // RATE * RATE].reshape(-1, RATE)
    rms = np.sqrt(np.square(seconds).mean(axis=1))
    assert np.median(rms) == pytest.approx(NOISE_RMS, rel=0.1)


def test_level_of_noise_clips():
    bank = NOISE_RMS * torch.randn(RATE * 4, generator=torch.Generator().manual_seed(1))
    noise = noise_clips(bank, 500, 1_600, torch.Generator().manual_seed(0))
    level_db = 20 * noise.square().mean(dim=1).sqrt().log10()
    assert level_db.max().item() == pytest.approx(LEVEL_DB[1], abs=1)
    assert level_db.quantile(0.1).item() < LEVEL_DB[0] + 12


def test_moving_level():
    moves = torch.tensor([[True], [False]])
    points = torch.rand(2, LEVEL_POINTS, generator=torch.Generator().manual_seed(0))
    moving, steady = moving_level(points, moves, 1_000)
    assert (steady == 1).all()
    assert moving.min() >= 0
    assert moving.max() <= 1
    assert moving.std() > 0.05
    steps = moving.diff().abs()
    assert steps.max() < 2 * LEVEL_POINTS / 1_000  # lines from point to point


def test_half_of_the_noise_clips_move():
    noise = noise_clips(torch.full((RATE,), NOISE_RMS), 400, 500, torch.Generator().manual_seed(0))
    assert (noise.std(dim=1) > 1e-6 * noise.mean(dim=1)).float().mean() == pytest.approx(
        0.5, abs=0.1
    )


def test_noise_clips_of_some_rows_equal_those_of_all():
    bank = torch.randn(RATE, generator=torch.Generator().manual_seed(1))
    everything = noise_clips(bank, 30, 400, torch.Generator().manual_seed(0))
    rows = torch.tensor([3, 4, 29])
    some = noise_clips(bank, 30, 400, torch.Generator().manual_seed(0), rows)
    torch.testing.assert_close(some, everything[rows])
    assert noise_clips(bank, 30, 400, torch.Generator(), rows[:0]).shape == (0, 400)


def test_a_share_of_the_clips_are_loud_sounds(tmp_path):
    for name, hertz in (("low", 300), ("high", 3_000)):
        sine = 0.01 * np.sin(2 * math.pi * hertz * np.arange(2 * RATE) / RATE)
        soundfile.write(tmp_path / f"{name}.wav", sine, RATE, subtype="FLOAT")
    bank = torch.from_numpy(sound_bank(sorted(tmp_path.iterdir()), RATE))
    assert len(bank) == pytest.approx(2 * 2 * RATE * (1 + 1 / 0.7 + 1 / 1.4), rel=1e-3)
    assert bank.square().mean().sqrt() == pytest.approx(NOISE_RMS, rel=1e-3)
    noise, rows = torch.full((200, 800), 0.5), torch.arange(0, 400, 2)
    clips = with_sounds(noise, bank, 0.6, 400, torch.Generator().manual_seed(0), rows)
    is_sound = (clips != 0.5).any(dim=1)
    assert 0.5 < is_sound.float().mean() < 0.7
    assert torch.equal(clips[~is_sound], noise[~is_sound])
    level_db = 20 * clips[is_sound].square().mean(dim=1).sqrt().log10()
    assert -50 < level_db.min() < LOUD_DB[0] + 5
    assert LOUD_DB[1] - 5 < level_db.max() < LOUD_DB[1] + 3
    assert clips.abs().max() <= 1
    every = with_sounds(
        torch.full((400, 800), 0.5),
        bank,
        0.6,
        400,
        torch.Generator().manual_seed(0),
        torch.arange(400),
    )
    assert torch.equal(clips, every[rows])
