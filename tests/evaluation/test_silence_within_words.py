"""Words that noise resembles are told from said ones by the silence within them."""

import numpy as np
import pytest
import soundfile
from bands import BandBackend
from listener import tone_split
from tones import RATE, TONES_HZ, tone

from speechgru.corpora.streams import StreamPlan
from speechgru.decoding.detector import DetectorConfig
from speechgru.evaluation.ambient import open_ambient
from speechgru.evaluation.calibration import calibrate
from speechgru.evaluation.streams import split_case
from speechgru.evaluation.tuning import MOST_SILENCE, tune
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.recognition.state_policy import CARRY, StatePolicy

RESETS = StatePolicy(mode="silence", silence_s=0.3)
DETECTOR = DetectorConfig(smoothing_s=0.1, threshold=0.4, min_duration_s=0.1)


class Unsure(BandBackend):
    """Half sure of every word: else faint ones are silence, and loud ones unknown speech."""

    def __call__(self, samples, state):
        log_posteriors, state = super().__call__(samples, state)
        posteriors = np.exp(log_posteriors)
        is_word = posteriors[:, 2:].max(axis=1) > 0.5
        is_faint = np.abs(samples.reshape(len(posteriors), -1)).max(axis=1) < 0.025
        posteriors[is_word] *= 0.5
        for label, steps in ((SILENCE, is_faint), (UNKNOWN, ~is_faint)):
            posteriors[is_word & steps, self.labels.index(label)] += 0.5
        return np.log(posteriors / posteriors.sum(axis=1, keepdims=True)), state


@pytest.fixture(scope="module")
def case():
    return split_case(tone_split("validation"), StreamPlan(minutes=0.5))


@pytest.fixture
def faint(tmp_path):
    """Each word six times, so faint that it sounds like noise."""
    parts = []
    for number, word in enumerate(tuple(TONES_HZ) * 6):
        quiet = tone(word, number)
        parts += [np.zeros(RATE, np.float32), 0.016 * quiet / np.abs(quiet).max()]
    soundfile.write(tmp_path / "faint.wav", np.concatenate(parts), RATE)
    return open_ambient(tmp_path, RATE)


def test_tuning_finds_how_much_silence_a_word_may_have(case, faint):
    trials = tune(Unsure(), case.sound, case.truth, [DETECTOR], ambient=faint)
    plain = [trial for trial in trials if trial.config == DETECTOR]
    best = trials[0]
    assert min(trial.ambient for trial in plain) > 5
    assert best.ambient == 0
    assert best.config.most_silence in MOST_SILENCE
    assert len(best.report.matched) == max(len(trial.report.matched) for trial in plain) > 0


def test_calibration_finds_how_much_silence_a_word_may_have(case, faint):
    """No threshold separates them."""
    found = calibrate(Unsure(), faint, case, 10, DETECTOR, RESETS)
    assert len(found.before.ambient.events) > 5
    assert found.chosen.ambient.events == ()
    assert found.config.most_silence < 1
    assert found.config.thresholds == pytest.approx(dict.fromkeys(TONES_HZ, DETECTOR.threshold))
    assert len(found.chosen.stream.matched) == len(found.before.stream.matched) > 0


def test_without_a_stream_calibration_leaves_it_alone(faint):
    loud_enough = DETECTOR.model_copy(update={"threshold": 0.95})
    found = calibrate(Unsure(), faint, None, 10, loud_enough, CARRY)
    assert found.config.most_silence == 1
