"""Detectors of many streams together: each one's events are those of its own `push`."""

import numpy as np
import pytest

from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.decoding.detector_rows import DetectorRows

LABELS = ("_silence_", "_unknown_", "yes", "no", "go")
STEP_S = 0.02


def posteriors(steps, seed):
    """Log-posteriors, (T, V), in which words come and go."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1, (steps, len(LABELS)))
    for first in range(0, steps, 25):
        logits[first : first + rng.integers(5, 40), rng.integers(0, len(LABELS))] += 6
    logits -= np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return logits.astype(np.float32)


def detectors(**surroundings):
    for threshold in (0.3, 0.5, 0.8):
        config = DetectorConfig(
            threshold=threshold,
            thresholds={"go": 0.4},
            **surroundings,
        )
        yield Detector(LABELS, STEP_S, config)


@pytest.mark.parametrize(
    "surroundings",
    [
        {},
        {"most_unknown": 0.3},
        {"most_unknown": 0.1, "pause_s": 0.4},
        {"most_silence": 0.1},
        {"most_silence": 0.2, "most_unknown": 0.1, "pause_s": 0.4},
    ],
)
@pytest.mark.parametrize("steps_at_once", [1, 3, 10])
def test_events_and_near_misses_are_those_of_each_detector_alone(surroundings, steps_at_once):
    streams = [posteriors(600, seed) for seed in range(12)]
    own = [d for _ in range(4) for d in detectors(**surroundings)]
    expected = [d.push(stream) for d, stream in zip(own, streams, strict=True)]
    assert sum(map(len, expected)) > 50

    together = [d for _ in range(4) for d in detectors(**surroundings)]
    for detector in together[::2]:
        detector.notes_verdicts = False
    rows = DetectorRows(together[0])
    for row, detector in enumerate(together):
        assert rows.fits(detector)
        rows.put(row, detector)
    found = [[] for _ in streams]
    rng, places = np.random.default_rng(0), np.zeros(len(streams), int)
    while places.min() < 600:  # some of the streams, in another order each time
        waiting = np.flatnonzero(places < 600)
        chosen = rng.permutation(waiting)[: rng.integers(1, len(waiting) + 1)]
        block = np.stack([streams[n][places[n] : places[n] + steps_at_once] for n in chosen])
        for place, events in rows.push(chosen, block).items():
            found[chosen[place]] += events
        places[chosen] += steps_at_once
    assert found == expected
    for alone, detector in zip(own, together, strict=True):
        assert detector.near_misses() == (alone.near_misses() if detector.notes_verdicts else [])


def test_thresholds_change_within_a_stream():
    """What was heard before counts: the same thresholds once more change nothing."""
    stream, place = posteriors(600, 0), 300
    other = DetectorConfig(threshold=0.9, thresholds={"go": 0.2})
    for config in (DetectorConfig(), other):
        alone, one_by_one, together = (Detector(LABELS, STEP_S) for _ in range(3))
        rows = DetectorRows(together)
        rows.put(3, together)
        expected, single = alone.push(stream[:place]), []
        for step in stream[:place]:
            single += one_by_one.push(step[np.newaxis])
        found = rows.push(np.array([3]), stream[np.newaxis, :place]).get(0, [])
        for detector in (alone, one_by_one, together):
            detector.change_thresholds(config)
        rows.set_limits(3)
        expected += alone.push(stream[place:])
        for step in stream[place:]:
            single += one_by_one.push(step[np.newaxis])
        found += rows.push(np.array([3]), stream[np.newaxis, place:]).get(0, [])
        assert found == expected
        assert single + one_by_one.flush() == expected
        assert (expected == Detector(LABELS, STEP_S).push(stream)) == (config != other)


def test_a_row_is_given_to_another_stream():
    stream = posteriors(100, 0)
    expected = next(detectors()).push(stream)
    detector = next(detectors())
    rows = DetectorRows(detector)
    rows.put(9, detector)
    rows.push(np.array([9]), posteriors(70, 1)[np.newaxis])
    rows.free(9)
    rows.put(9, next(detectors()))
    assert rows.push(np.array([9]), stream[np.newaxis]).get(0, []) == expected


def test_detectors_of_other_settings_have_no_row():
    rows = DetectorRows(Detector(LABELS, STEP_S))
    assert not rows.fits(Detector(LABELS, STEP_S, DetectorConfig(smoothing_s=0.4)))
    assert not rows.fits(Detector(LABELS[:4], STEP_S))
    assert not rows.fits(Detector(LABELS, STEP_S, DetectorConfig(most_silence=0.5)))
    assert not rows.fits(Detector(LABELS, STEP_S, DetectorConfig(most_unknown=0.5)))
    assert not rows.fits(Detector(LABELS, STEP_S, DetectorConfig(most_unknown=0.5, pause_s=0.5)))
