"""Where words begin and end in a stream, and what is wrong with them."""

import numpy as np
import pytest
from speech_like import room, spoken

from speechgru.audio.endpoints import MARGIN_S, EndpointDetector, Take
from speechgru.audio.files import read

RATE = 16_000


def takes(*parts: np.ndarray, chunk: int = 320) -> list[Take]:
    detector = EndpointDetector(RATE)
    stream = np.concatenate(parts).astype(np.float32)
    found = []
    for first in range(0, len(stream), chunk):
        found += detector.push(stream[first : first + chunk])
    return found + detector.flush()


def test_a_word_is_found_with_its_margins():
    (take,) = takes(room(1.0), spoken(0.6), room(1.0))
    assert take.fault is None
    assert take.start_s == pytest.approx(1.0 - MARGIN_S, abs=0.05)
    assert take.end_s == pytest.approx(1.6 + MARGIN_S, abs=0.05)
    assert len(take.samples) == round((take.end_s - take.start_s) * RATE)


@pytest.mark.parametrize("chunk", [1, 333, 50_000])
def test_the_chunks_do_not_matter(chunk):
    parts = [room(1.0), spoken(0.4), room(1.0), spoken(0.5), room(0.9)]
    whole, chunked = takes(*parts), takes(*parts, chunk=chunk)
    assert [(t.start_s, t.end_s) for t in chunked] == [(t.start_s, t.end_s) for t in whole]
    assert len(whole) == 2


def test_a_pause_inside_a_phrase_does_not_end_it():
    (take,) = takes(room(1.0), spoken(0.4), room(0.3), spoken(0.4), room(1.0))
    assert take.end_s - take.start_s == pytest.approx(1.1 + 2 * MARGIN_S, abs=0.08)


@pytest.mark.parametrize(
    ("parts", "fault"),
    [
        ([room(1.0), 4 * spoken(0.5).clip(-0.25, 0.25), room(1.0)], "clipped"),
        ([room(1.0, 1e-4), spoken(0.5, peak=0.01), room(1.0, 1e-4)], "faint"),
        ([spoken(0.9), room(1.5)], "cut off"),
        ([room(1.0), spoken(5.0), room(1.0)], "too long"),
    ],
)
def test_a_fault_is_named(parts, fault):
    assert takes(*parts)[0].fault == fault


def test_clicks_thumps_and_a_sinking_offset_are_no_words():
    time = np.arange(RATE) / RATE
    click = np.zeros(RATE)
    click[4000:4040] = 0.9
    thump = 0.6 * np.exp(-time / 0.25) * np.sin(2 * np.pi * 30 * time)
    offset = 0.3 * np.exp(-time / 0.5)
    for disturbance in (click, thump, offset):
        stream = room(3.0)
        stream[RATE : 2 * RATE] += disturbance.astype(np.float32)
        assert takes(stream) == []


@pytest.mark.slow
def test_two_hundred_real_words_are_found(gsc_open):
    """One take each, which holds the word where its bounds are known well enough."""
    words = sorted(p for p in gsc_open.glob("*/*.flac") if not p.parent.name.startswith("_"))
    rng = np.random.default_rng(3)
    found = 0
    for path in (words[i] for i in rng.choice(len(words), 200, replace=False)):
        clip = read(path)
        stream = np.concatenate([room(1.0), 0.3 * clip / max(1e-3, np.abs(clip).max()), room(1.0)])
        found += len(takes(stream)) == 1
    assert found >= 195
