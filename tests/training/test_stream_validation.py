"""Validation on streams chooses weights and detector by missed words and false alarms."""

import numpy as np
import pytest
import torch
from runs import CPU, metrics, quick_recipe
from tones import trained_model, untrained_model

from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.labels import NOT_WORDS
from speechgru.modelfile import load_model
from speechgru.training.data import prepare
from speechgru.training.loop import train
from speechgru.training.recipe import parse_recipe
from speechgru.training.stream_validation import StreamScore, StreamValidation
from speechgru.training.validation import Score

pytestmark = pytest.mark.usefixtures("quick_streams")


def stream_recipe(tones, **training):
    table = quick_recipe(tones, choose_by="streams", **training).model_dump()
    table["data"]["other_sounds"] = True
    table["stream"] = {"clips": 2, "talk_share": 0.3}
    return parse_recipe(table, "streams")


@pytest.fixture(scope="module")
def data(tones):
    return prepare(stream_recipe(tones))


@pytest.fixture(scope="module")
def good(data) -> StreamScore:
    """Of a network that knows the words."""
    model = trained_model()
    return StreamValidation(data, model)(model)


def test_trained_network_scores_better_than_an_untrained_one(data, good):
    guesses = untrained_model(clip_s=0.5)
    bad = StreamValidation(data, guesses)(guesses)
    assert good.words >= 96
    assert good.hours > 0.05
    assert good.missed_percent < bad.missed_percent
    assert good.errors < bad.errors


def test_score_is_deterministic(data, good):
    model = trained_model()
    assert StreamValidation(data, model)(model) == good


def test_own_detector_is_the_only_one(data, good):
    model = trained_model()
    own = DetectorConfig(smoothing_s=0.3, threshold=0.97)
    score = StreamValidation(data, model)(model, own)
    assert score.detector == own
    assert score.errors == score.cost
    assert score.false_alarms_per_hour <= good.false_alarms_per_hour


@pytest.mark.parametrize(
    ("misses_above", "fires_below", "chosen"),
    [(0.97, 0.1, 0.85), (0.65, 0.1, 0.6), (0.97, 0.92, 0.95)],
)
def test_threshold_is_the_usual_one_unless_another_does_better(
    data, misses_above, fires_below, chosen
):
    validation, model = StreamValidation(data, trained_model()), trained_model()
    validation._missed = lambda rows, labels, config: 50 * (config.threshold > misses_above)
    validation._events = lambda rows, labels, config: [0] * 100 * (config.threshold < fires_below)
    assert validation(model).detector.threshold == pytest.approx(chosen)


@pytest.mark.parametrize(
    ("alarms", "percent", "chosen"),
    [(1, 2, 0.95), (1, 6, 0.85), (2, 12, 0.95), (2, 24, 0.85)],
)
def test_a_lone_false_alarm_costs_the_detector_little(data, alarms, percent, chosen):
    """The threshold of 0.95 misses so many per cent more, and has none: per hour and word.

    One false alarm costs 25 % of 0.17, the low end of its interval, and two cost 25 % of 0.71.
    """
    validation, model = StreamValidation(data, trained_model()), trained_model()
    hours = validation.wordless.size / model.sample_rate / 3600
    words = sum(label not in NOT_WORDS for label in model.labels)
    percent = percent / hours / words
    validation._missed = lambda rows, labels, config: (
        len(validation.words) * percent / 100 * (config.threshold > 0.92)
    )
    validation._events = lambda rows, labels, config: [0] * alarms * (config.threshold < 0.92)
    score = validation(model)
    assert score.detector.threshold == pytest.approx(chosen)
    # The weights are chosen by four per cent.
    alarms_per_word = score.false_alarms_per_hour / words
    assert score.cost == pytest.approx(score.missed_percent + 4 * alarms_per_word)


def test_events_are_those_of_each_row_alone(data):
    """Words before and after each other's end, held ones, and rows that end within one."""
    validation, model = StreamValidation(data, trained_model()), trained_model()
    rng = np.random.default_rng(0)
    walks = rng.standard_normal((24, 300, len(model.labels))).cumsum(axis=1)
    rows = torch.log_softmax(torch.from_numpy(walks.astype(np.float32)), dim=-1).numpy()
    for most_unknown, pause_s in ((1.0, 0.0), (0.4, 0.0), (0.4, 0.7)):
        config = DetectorConfig(release=0.95, most_unknown=most_unknown, pause_s=pause_s)
        alone = []
        for row, log_posteriors in enumerate(rows):
            detector = Detector(model.labels, validation.step_s, config)
            events = detector.push(log_posteriors) + detector.flush()
            alone += [(row, event.word, pytest.approx(event.t)) for event in events]
        assert len(alone) > 24
        assert validation._events(rows, model.labels, config) == alone


def test_false_alarms_in_talk_are_counted(data):
    """A network that always gives one word fires in talk, and misses the others."""
    model = untrained_model(clip_s=0.5)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([8.0, 0.0, 0.0]))
    score = StreamValidation(data, model)(model)
    assert score.false_alarms_per_hour > 0
    assert score.missed_percent == pytest.approx(100.0)  # what fires before the word is no answer


def test_model_has_the_detector_chosen_with_its_weights(tones, tmp_path):
    result = train(stream_recipe(tones, validations=4), tmp_path / "run", CPU)
    *early, before_last, last = metrics(tmp_path / "run")
    rows = [before_last, last]
    assert not any("stream_errors" in row for row in early)  # before the last quarter of the run
    errors = [row["stream_errors"] for row in rows]
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))
    assert result.metrics["step"] == rows[best]["step"]  # of equal ones the later
    decoder = DetectorConfig(**load_model(result.model).metadata["decoder"])
    assert decoder.threshold == rows[best]["threshold"]
    assert decoder.smoothing_s == rows[best]["smoothing_s"]
    assert decoder.release > DetectorConfig().release  # a word said twice is two events


def test_later_weights_win_ties(tones, tmp_path, monkeypatch):
    score = StreamScore(1.0, 0.0, 0.0, 96, 0.1, DetectorConfig())
    monkeypatch.setattr(StreamValidation, "__call__", lambda self, model, own: score)
    result = train(stream_recipe(tones), tmp_path / "run", CPU)
    assert result.metrics["step"] == result.steps


def test_clip_scores_have_no_stream_figures():
    assert "stream_errors" not in Score(0.1, 0.9, 0.9, 10).as_dict()


def test_scores_are_hashable():
    """`train` uses the hash to print each once."""
    scores = [StreamScore(1.0, 0.0, n, 96, 0.1, DetectorConfig()) for n in (0.0, 1.0, 1.0)]
    assert len(set(scores)) == 2
