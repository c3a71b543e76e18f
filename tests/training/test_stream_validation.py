"""Weights and the detector are chosen by streams: words missed, and false alarms in talk."""

import numpy as np
import pytest
import torch
from runs import CPU, metrics, quick_recipe
from tones import trained_model, untrained_model

from speechgru.decoding.detector import DetectorConfig
from speechgru.modelfile import load_model
from speechgru.training.data import prepare
from speechgru.training.loop import train
from speechgru.training.recipe import parse_recipe
from speechgru.training.stream_validation import StreamScore, StreamValidation
from speechgru.training.validation import Score


def stream_recipe(tones, **training):
    table = quick_recipe(tones, choose_by="streams", **training).model_dump()
    table["data"]["other_sounds"] = True
    table["stream"] = {"clips": 2, "talk_share": 0.3}
    return parse_recipe(table, "streams")


@pytest.fixture(scope="module")
def data(tones):
    return prepare(stream_recipe(tones))


def test_a_network_that_knows_the_words_is_better_than_one_that_does_not(data):
    knows, guesses = trained_model(), untrained_model(clip_s=0.5)
    good = StreamValidation(data, knows)(knows)
    bad = StreamValidation(data, guesses)(guesses)
    assert good.words >= 96
    assert good.hours > 0.05
    assert good.missed_percent < bad.missed_percent
    assert good.errors < bad.errors


def test_the_same_network_has_the_same_score(data):
    model = trained_model()
    assert StreamValidation(data, model)(model) == StreamValidation(data, model)(model)


def test_a_false_alarm_in_talk_costs_as_much_as_it_says(data):
    """A network that answers one word all the time: it fires in talk, and misses the others."""
    model = untrained_model(clip_s=0.5)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.copy_(torch.tensor([8.0, 0.0, 0.0]))
    score = StreamValidation(data, model)(model)
    assert score.false_alarms_per_hour > 0
    assert score.missed_percent == pytest.approx(100.0)  # what fires before the word is no answer


def test_a_run_keeps_the_detector_that_its_weights_were_chosen_with(tones, tmp_path):
    result = train(stream_recipe(tones), tmp_path / "run", CPU)
    rows = metrics(tmp_path / "run")
    errors = [row["stream_errors"] for row in rows]
    best = len(errors) - 1 - int(np.argmin(errors[::-1]))
    assert result.metrics["step"] == rows[best]["step"]  # of equal ones the later
    decoder = DetectorConfig(**load_model(result.model).metadata["decoder"])
    assert decoder.threshold == rows[best]["threshold"]
    assert decoder.smoothing_s == rows[best]["smoothing_s"]


def test_of_equal_weights_the_later_are_kept(tones, tmp_path, monkeypatch):
    score = StreamScore(1.0, 0.0, 0.0, 96, 0.1, DetectorConfig())
    monkeypatch.setattr(StreamValidation, "__call__", lambda self, model: score)
    result = train(stream_recipe(tones), tmp_path / "run", CPU)
    assert result.metrics["step"] == result.steps


def test_metrics_of_clips_alone_have_no_stream_figures():
    assert "stream_errors" not in Score(0.1, 0.9, 0.9, 10).as_dict()


def test_a_score_can_be_told_from_another_by_its_hash():
    """`train` prints each once."""
    scores = [StreamScore(1.0, 0.0, n, 96, 0.1, DetectorConfig()) for n in (0.0, 1.0, 1.0)]
    assert len(set(scores)) == 2
