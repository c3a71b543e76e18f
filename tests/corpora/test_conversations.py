"""Conversations: stretches of talk, pauses and commands where the truth says that they are."""

import json
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from listener import tone_split
from speech_like import room, spoken
from tones import RATE

from speechgru.audio.files import read
from speechgru.cli import main
from speechgru.corpora.background import NOISE_DB
from speechgru.corpora.conversations import (
    QUIET_S,
    RIGHT_AFTER_S,
    ConversationPlan,
    Talk,
    make_conversation,
    open_talk,
    write_conversation,
)
from speechgru.corpora.other_sounds import other_sounds
from speechgru.errors import DataError, UsageError
from speechgru.labels import COMMANDS

PLAN = ConversationPlan(minutes=8, seed=1, talk_s=(5.0, 40.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Vowels with a second of quiet around each, in files of 3 and of 30 s."""
    root = tmp_path_factory.mktemp("talk")
    for number, count in enumerate((1, 1, 12)):
        parts = [part for _ in range(count) for part in (room(1.0), spoken(1.5))]
        soundfile.write(root / f"{number}.wav", np.concatenate([*parts, room(0.5)]), RATE)
    return root


@pytest.fixture(scope="module")
def talk(folder):
    return open_talk(str(folder), RATE)


@pytest.fixture(scope="module")
def conversation(talk):
    return make_conversation(tone_split(), talk, PLAN)


def split_words(conversation):
    words = conversation.truth.words
    return [w for w in words if w.word == "_unknown_"], [w for w in words if w.word != "_unknown_"]


def test_long_recordings_are_cut_into_sentences_without_silence_around_them(talk):
    lengths = [len(sentence) / RATE for sentence in talk.sentences]
    assert len(lengths) > 4
    assert max(lengths) < 12.1
    for sentence in talk.sentences:
        for edge in (sentence[:800], sentence[-800:]):
            assert np.abs(edge.astype(float)).max() > 0.02 * 32768


def test_a_stretch_ends_with_a_sentence_at_level_one(talk):
    stretch = talk.stretches(np.random.default_rng(0)).next(7 * RATE)
    assert len(stretch) == 7 * RATE
    assert np.sqrt(np.square(stretch[-RATE:]).mean()) == pytest.approx(1, abs=0.5)


def test_conversations_are_reproducible(talk, conversation):
    again = make_conversation(tone_split(), talk, PLAN)
    np.testing.assert_array_equal(conversation.samples, again.samples)
    assert conversation.truth == again.truth
    assert conversation.truth.duration_s == pytest.approx(480)
    other = make_conversation(tone_split(), talk, ConversationPlan(8, 2, talk_s=(5.0, 40.0)))
    assert other.truth.words != conversation.truth.words


def test_lengths_and_pauses_are_those_of_the_plan(conversation):
    talks, commands = split_words(conversation)
    assert all(5 <= talk.end - talk.start <= 40 for talk in talks)
    assert min(talk.end - talk.start for talk in talks) < 8
    assert max(talk.end - talk.start for talk in talks) > 20
    assert len(commands) % 3 == 0
    assert len(commands) > 3 * len(talks)  # some after quiet
    pauses = [after.start - before.end for before, after in pairwise(conversation.truth.words)]
    after_talk = [
        after.start - before.end
        for before, after in pairwise(conversation.truth.words)
        if before.word == "_unknown_"
    ]
    assert any(RIGHT_AFTER_S[0] <= pause <= RIGHT_AFTER_S[1] + 1e-3 for pause in after_talk)
    assert any(pause >= QUIET_S[0] for pause in pauses)
    for pause in pauses:
        assert RIGHT_AFTER_S[0] - 1e-3 <= pause <= RIGHT_AFTER_S[1] + 1e-3 or pause >= 0.299


def test_talk_and_commands_are_as_loud_as_the_truth_says(conversation):
    def level_db(word):
        part = conversation.samples[round(word.start * RATE) : round(word.end * RATE)] / 32768
        return 10 * np.log10(np.square(part).mean()) - NOISE_DB

    talks, commands = split_words(conversation)
    for word in commands:
        assert 5 <= word.snr_db <= 20
        assert level_db(word) == pytest.approx(word.snr_db, abs=2)
    for word in talks:  # with breaths between the sentences
        assert level_db(word) == pytest.approx(word.snr_db, abs=4)


def test_written_conversation_is_the_same(talk, tmp_path, conversation):
    truth = write_conversation(tmp_path / "c.flac", tone_split(), talk, PLAN)
    assert truth == conversation.truth
    np.testing.assert_array_equal(
        read(tmp_path / "c.flac"), conversation.samples.astype(np.float32) / 32768
    )
    assert truth.made["talk"]["recordings"] == 3


def test_data_stream_with_talk(folder, tmp_path, capsys):
    manifest, name = str(tone_split().corpus.root / "tones.csv"), str(tmp_path / "c.wav")
    options = ["data", "stream", manifest, "-o", name, "--minutes", "1"]
    assert main([*options, "--talk", str(folder), "--gap", "1:2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["words"] >= 3
    assert told["unknown_words"] >= 1
    assert told["pause_s"] == [1, 2]
    assert told["talk"]["name"] == folder.name
    assert main([*options, "--talk", str(folder), "--unknown", "0.2"]) == 2
    assert "--unknown: has no effect together with --talk" in capsys.readouterr().err


def test_bundled_talk_is_of_validation_and_without_the_words():
    sounds = other_sounds()
    paths = sounds.speech("validation", COMMANDS)
    talk = open_talk("bundled", RATE, COMMANDS)
    assert talk.description == {"name": "bundled", "recordings": len(paths)}
    assert 0 < len(paths) < len(sounds.speech("validation"))


def test_talk_that_is_none_is_an_error(tmp_path):
    with pytest.raises(DataError, match="holds no recording"):
        open_talk(str(tmp_path), RATE)
    soundfile.write(tmp_path / "zeros.wav", np.zeros(RATE), RATE)
    with pytest.raises(DataError, match="holds no speech"):
        open_talk(str(tmp_path), RATE)
    with pytest.raises(DataError, match="nowhere"):
        Talk([tmp_path / "nowhere.wav"], RATE, {"name": "x"})


@pytest.mark.parametrize(
    "settings", [{"minutes": 0}, {"snr_db": (9, 5)}, {"pause_s": (0, 5)}, {"talk_s": (5, 4000)}]
)
def test_values_out_of_range_are_errors(settings):
    with pytest.raises(UsageError, match="is needed"):
        ConversationPlan(**settings)
