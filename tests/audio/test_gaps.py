"""Gaps that lost samples leave: what they are filled with, in any chunking."""

import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechgru.audio.gaps import GapBridge, fill

RATE = 16_000


def voice(length, pitch_hz=140.0):
    """A sound with a pitch: a sum of harmonics, (S,)."""
    phase = 2 * np.pi * pitch_hz * np.arange(length) / RATE
    return sum(np.sin(k * phase + k) / k for k in range(1, 9)).astype(np.float32) / 8


def noise(length, deviation=0.01, seed=0):
    return np.random.default_rng(seed).normal(0, deviation, length).astype(np.float32)


def decibels(wrong, right):
    return 10 * np.log10(np.mean(np.square(wrong - right)) / np.mean(np.square(right)))


@pytest.mark.parametrize("pitch_hz", [90.0, 140.0, 310.0])
def test_a_voice_goes_on_across_a_packet(pitch_hz):
    whole = voice(4_000, pitch_hz)
    gap = slice(3_000, 3_320)
    filled = fill(whole[: gap.start], 320, RATE)
    assert filled.shape == (320,)
    assert decibels(filled, whole[gap]) < -6  # silence would be at 0 dB


def test_a_long_gap_fades_into_the_background():
    before = np.concatenate([noise(4_000), voice(3_000) + noise(3_000, seed=1)])
    filled = fill(before, RATE, RATE)
    level = np.std(filled[RATE // 4 : -RATE // 4])
    assert 0.005 < level < 0.02
    assert np.std(filled[:320]) == pytest.approx(np.std(voice(3_000)), rel=0.3)


@pytest.mark.parametrize("known", [0, 1, 39, 100, 300, 600])
@pytest.mark.parametrize("lost", [1, 7, 320, 5_000])
def test_little_known_sound_gives_finite_samples_no_louder_than_it(known, lost):
    before = noise(known, 0.1)
    filled = fill(before, lost, RATE)
    assert filled.shape == (lost,)
    assert filled.dtype == np.float32
    assert np.abs(filled).max() < 1.0


@settings(deadline=None, max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=12),
    gaps=st.lists(st.tuples(st.integers(0, 6_000), st.integers(1, 2_000)), max_size=4),
)
def test_gaps_are_filled_the_same_in_any_chunking(sizes, gaps):
    samples = voice(6_000) + noise(6_000)
    losses = {}
    for place, lost in gaps:
        losses[place] = losses.get(place, 0) + lost

    def bridged(cuts):
        bridge, found = GapBridge(RATE), []
        edges = sorted({0, *losses, *cuts, len(samples)})
        for start, stop in zip(edges, [*edges[1:], len(samples)], strict=True):
            found.append(bridge.push(samples[start:stop], losses.get(start, 0)))
        return np.concatenate(found)

    cuts = [int(cut) for cut in np.cumsum(sizes) if cut < len(samples)]
    whole, chunked = bridged([]), bridged(cuts)
    assert len(whole) == len(samples) + sum(losses.values())
    assert np.array_equal(whole, chunked)


def test_without_gaps_samples_pass_unchanged_and_at_once():
    bridge, samples = GapBridge(RATE), noise(20_000)
    for first in range(0, 20_000, 333):
        piece = samples[first : first + 333]
        assert bridge.push(piece) is piece


def test_what_is_remembered_does_not_grow():
    bridge = GapBridge(RATE)
    for _ in range(100):
        bridge.push(noise(RATE))
    assert len(pickle.dumps(bridge)) < 40_000
