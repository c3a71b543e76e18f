"""Bursts between the words of a long stream: not a number, clipped noise, a constant offset.

$SPEECHGRU_STREAM_HOURS says how long the stream is; a day takes about ten minutes.
"""

import os

import numpy as np
import pytest

from speechgru import load
from speechgru.corpora.split_audio import open_split_audio
from speechgru.corpora.streams import StreamPlan, stream_pieces
from speechgru.corpora.truth import Truth
from speechgru.errors import DataError
from speechgru.evaluation.events import score_events

HOURS = float(os.environ.get("SPEECHGRU_STREAM_HOURS", "0.2"))
RATE = 16_000
#: The least background before a clip, a burst in it, and what is left on either side of that.
GAP, BURST, MARGIN = round(0.9 * RATE), round(0.3 * RATE), round(0.2 * RATE)


def disturbed(samples, kind, rng):
    """Samples with a burst in the gap that they start with, as parts: (samples, are usable)."""
    start = rng.integers(MARGIN, GAP - BURST - MARGIN + 1)
    before, burst, after = np.split(samples, [start, start + BURST])
    if kind == "nan":
        bad = np.where(rng.random(BURST) < 0.1, rng.choice([np.nan, np.inf, -np.inf]), burst)
        return [(before, True), (bad.astype(np.float32), False), (burst, True), (after, True)]
    if kind == "clipping":
        burst = np.clip(rng.normal(0, 3, BURST), -1, 1).astype(np.float32)
    else:
        burst = np.clip(burst + rng.choice([-0.7, 0.7]), -1, 1).astype(np.float32)
    return [(np.concatenate([before, burst, after]), True)]


def heard(audio, bursts: bool, seed: int = 7):
    """What became of the words of a stream, and how many bursts of each kind there were."""
    recognizer, rng = load(), np.random.default_rng(seed)
    plan = StreamPlan(minutes=60 * HOURS, seed=seed, gap_s=(GAP / RATE, 2.0))
    events, words, counts = [], [], {"nan": 0, "clipping": 0, "offset": 0}
    for piece in stream_pieces(audio, plan):
        samples = piece.samples.astype(np.float32) / 32_768
        parts = [(samples, True)]
        if piece.words:
            words += piece.words
            if bursts and rng.random() < 0.5:
                kind = str(rng.choice(list(counts)))
                counts[kind] += 1
                parts = disturbed(samples, kind, rng)
        for part, usable in parts:
            if usable:
                events += recognizer.push(part)
                continue
            with pytest.raises(DataError, match="samples must be finite"):
                recognizer.push(part)
    events += recognizer.flush()
    truth = Truth(words=tuple(words), duration_s=60 * plan.minutes)
    return score_events(truth, events, 60 * plan.minutes), counts


@pytest.mark.slow
def test_bursts_between_words_lose_none(gsc_open):
    audio = open_split_audio(gsc_open, "commands-12", "testing", RATE)
    without, _ = heard(audio, bursts=False)
    report, counts = heard(audio, bursts=True)
    for name, found in (("without", without), ("with", report)):
        print(name, {k: v for k, v in found.as_dict().items() if k != "recall_by_minutes"})
    print(counts)
    assert report.words == without.words
    assert min(counts.values()) >= 100 * HOURS
    assert len(report.matched) >= len(without.matched) - 0.01 * without.n - 2
