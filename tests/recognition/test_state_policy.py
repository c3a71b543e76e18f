"""When the recurrent state of a stream is reset, and the settings that say so."""

import numpy as np
import pytest
from bands import BandBackend
from tones import RATE, tone

from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import DataError, UsageError
from speechgru.recognition.recognizer import open_recognizer, stream_settings
from speechgru.recognition.state_policy import GRID_STEPS, StatePolicy


def states_after(recognizer, backend, samples):
    """(time_s, state) at the begin of each block that the backend was given."""
    recognizer.push(samples)
    starts = np.cumsum([0, *backend.blocks[:-1]]) / RATE
    return list(zip(starts.tolist(), backend.states, strict=True))


def test_carry_never_resets():
    backend = BandBackend()
    recognizer = open_recognizer(backend, policy=StatePolicy(mode="carry"))
    for second in np.split(np.concatenate([tone("low", 0, 1.0), np.zeros(9 * RATE)]), 10):
        recognizer.push(second.astype(np.float32))
    assert all(state["layer0"].any() for state in backend.states[1:])


def test_policy_event_resets_only_the_recurrent_state():
    backend = BandBackend()
    recognizer = open_recognizer(backend, policy=StatePolicy(mode="event"))
    (event,) = recognizer.push(tone("low", 0, 0.5))
    starts = np.cumsum([0, *backend.blocks[:-1]]) / RATE
    resets = [
        (start, state)
        for start, state in zip(starts[1:], backend.states[1:], strict=True)
        if not state["layer0"].any()
    ]
    ((start_s, state),) = resets
    assert event.t <= start_s < event.t + GRID_STEPS * 0.02
    assert state["samples"].any()


def test_policy_silence_resets_a_lasting_answer():
    rng = np.random.default_rng(0)
    quiet = rng.normal(0, 2e-3, 3 * RATE).astype(np.float32)
    samples = np.concatenate([quiet, tone("low", 0, 0.5), quiet])
    for mode in ("carry", "silence"):
        policy = StatePolicy(mode=mode, silence_s=0.5)
        recognizer = open_recognizer(BandBackend(), policy=policy)
        (event,) = recognizer.push(samples)
        assert event.word == "low"
        answer = recognizer.labels[recognizer.log_posteriors.argmax()]
        assert answer == {"carry": "low", "silence": "_silence_"}[mode]


def test_loudness_is_relative_to_the_background():
    """What is quiet is told from the background's own level, so noise may be quiet, words not."""
    backend = BandBackend()
    rng = np.random.default_rng(0)
    background = rng.normal(0, 0.02, 4 * RATE).astype(np.float32)
    background[2 * RATE : 3 * RATE] += tone("mid", 1, 1.0)
    recognizer = open_recognizer(backend, policy=StatePolicy(mode="silence", silence_s=0.5))
    times = [
        time_s
        for time_s, state in states_after(recognizer, backend, background)[1:]
        if not state["layer0"].any()
    ]
    assert any(time_s < 2.0 for time_s in times)
    assert not any(2.1 < time_s < 3.4 for time_s in times)
    assert any(time_s >= 3.5 for time_s in times)


def test_stream_settings_come_from_the_model_unless_overridden():
    metadata = {"decoder": {"threshold": 0.9, "thresholds": {"low": 0.3}}, "state_policy": {}}
    assert stream_settings({}) == (DetectorConfig(), StatePolicy())
    assert stream_settings(metadata)[0].threshold_for("low") == 0.3
    config, policy = stream_settings(metadata, threshold=0.6, mode="event")
    assert config.threshold_for("low") == config.threshold_for("mid") == 0.6
    assert policy.mode == "event"
    with pytest.raises(UsageError, match=r"threshold 1\.5"):
        stream_settings({}, threshold=1.5)
    with pytest.raises(UsageError, match="carry, silence, event"):
        stream_settings({}, mode="never")
    with pytest.raises(DataError, match=r"decoder settings: unknown key 'treshold'"):
        stream_settings({"decoder": {"treshold": 0.5}})
    with pytest.raises(DataError, match=r"state policy: silence_s = 0"):
        stream_settings({"state_policy": {"silence_s": 0}})
