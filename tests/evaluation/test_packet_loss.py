"""The cost of lost packets: which are lost, and how many more words are missed."""

import json

import numpy as np
import pytest
from bands import BandBackend
from tones import RATE, tone

from speechgru.cli import main
from speechgru.corpora.truth import SpokenWord, Truth
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import UsageError
from speechgru.evaluation.packet_loss import PacketLoss, measure_loss
from speechgru.evaluation.streams import ArraySound, StreamCase
from speechgru.recognition.state_policy import StatePolicy


def case(words=30, seed=0):
    """Tones of 0.4 s with pauses, and their truth."""
    rng = np.random.default_rng(seed)
    parts, spoken, now = [], [], 0
    for number in range(words):
        word = ("low", "mid", "high")[rng.integers(3)]
        pause = rng.normal(0, 1e-3, RATE).astype(np.float32)
        parts += [pause, tone(word, number, 0.4)]
        start = now + len(pause)
        now = start + len(parts[-1])
        spoken.append(SpokenWord(word=word, start=start / RATE, end=now / RATE))
    truth = Truth(duration_s=now / RATE, words=tuple(spoken))
    return StreamCase(ArraySound(np.concatenate(parts), RATE), truth, {"audio": "tones"})


def test_packets_and_losses_make_up_the_sound():
    sound = case(5).sound
    loss = PacketLoss(0.3, 20.0, seed=3)
    packets = list(loss.packets(sound, RATE))
    assert sum(len(samples) + lost for samples, lost in packets) == len(sound.samples)
    share = sum(lost for _, lost in packets) / len(sound.samples)
    assert share == pytest.approx(0.3, abs=0.06)
    place = 0
    for samples, lost in packets:
        place += lost
        assert np.array_equal(samples, sound.samples[place : place + len(samples)])
        place += len(samples)
    assert [lost for _, lost in loss.packets(sound, RATE)] == [lost for _, lost in packets]
    other = PacketLoss(0.3, 20.0, seed=4).packets(sound, RATE)
    assert [lost for _, lost in other] != [lost for _, lost in packets]


def test_words_missed_with_and_without_loss():
    few, most = (
        measure_loss(
            BandBackend(), case(), PacketLoss(share, 20.0), DetectorConfig(), StatePolicy(), draws=2
        )
        for share in (0.05, 0.97)
    )
    assert few.missed_rate == most.missed_rate == 0
    assert few.points < 5
    assert most.points > 30
    low, high = most.points_ci95
    assert low < most.points < high
    assert most.as_dict()["missed_rate_with_loss"] == pytest.approx(most.points / 100)


def test_one_word_has_no_interval():
    report = measure_loss(
        BandBackend(),
        case(words=1),
        PacketLoss(0.05, 20.0),
        DetectorConfig(),
        StatePolicy(),
        draws=2,
    )
    assert report.whole.n == 1
    assert report.points_ci95 is None
    assert json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize("arguments", [(0.0, 20.0), (1.0, 20.0), (0.1, 0.0), (0.1, 5_000.0)])
def test_impossible_losses_are_refused(arguments):
    with pytest.raises(UsageError, match="needed"):
        PacketLoss(*arguments)


def test_a_negative_seed_is_refused(capsys):
    assert main(["bench", "loss", "--data", "embedded", "--seed", "-1"]) == 2
    assert "--seed" in capsys.readouterr().err


@pytest.mark.slow
def test_bench_loss(capsys):
    arguments = ["--data", "embedded", "--minutes", "3", "--draws", "2", "--json"]
    assert main(["bench", "loss", *arguments]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n"] > 20
    assert found["points"] <= 6  # of so few words one is three points
    assert found["points_ci95"][0] <= found["points"] <= found["points_ci95"][1]
