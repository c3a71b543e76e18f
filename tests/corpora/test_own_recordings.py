"""A folder of one's own recordings as it grows."""

import numpy as np
import pytest
import soundfile

from speechgru.corpora import open_corpus
from speechgru.corpora.own_recordings import OwnRecordings, usual_speaker
from speechgru.errors import UsageError

RATE = 16_000
SOUND = (0.1 * np.sin(np.arange(RATE) / 5)).astype(np.float32)


def test_recordings_are_numbered_by_speaker_and_go_on_another_day(tmp_path):
    anna = OwnRecordings(tmp_path, "anna", RATE)
    assert anna.add("lumos", SOUND).name == "anna_1.wav"
    assert anna.add("lumos", SOUND).name == "anna_2.wav"
    assert OwnRecordings(tmp_path, "ben", RATE).add("lumos", SOUND).name == "ben_1.wav"
    again = OwnRecordings(tmp_path, "anna", RATE)
    assert again.count("lumos") == 2
    assert again.add("lumos", SOUND).name == "anna_3.wav"


def test_what_is_written_is_what_was_heard(tmp_path):
    path = OwnRecordings(tmp_path, "anna", RATE).add("lumos", SOUND)
    samples, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    np.testing.assert_allclose(samples, SOUND, atol=1 / 32768)


def test_undo_deletes_the_last_one_of_this_session_alone(tmp_path):
    OwnRecordings(tmp_path, "anna", RATE).add("lumos", SOUND)
    anna = OwnRecordings(tmp_path, "anna", RATE)
    path = anna.add("nox", SOUND)
    assert anna.undo() == path
    assert not path.exists()
    assert anna.undo() is None
    assert anna.count("lumos") == 1


def test_undo_leaves_the_room_and_talk(tmp_path):
    anna = OwnRecordings(tmp_path, "anna", RATE)
    take, room, talk = anna.add("nox", SOUND), anna.add_room(SOUND), anna.add_talk(SOUND)
    assert (anna.undo(), anna.undo()) == (take, None)
    assert room.exists()
    assert talk.exists()


def test_the_usual_speaker_is_the_only_one(tmp_path):
    assert usual_speaker(tmp_path / "missing") == "me"
    OwnRecordings(tmp_path, "anna", RATE).add("lumos", np.zeros(RATE, np.float32))
    OwnRecordings(tmp_path, "ben", RATE).add_talk(np.zeros(RATE, np.float32))
    assert usual_speaker(tmp_path) == "anna"
    OwnRecordings(tmp_path, "cleo", RATE).add("lumos", np.zeros(RATE, np.float32))
    assert usual_speaker(tmp_path) == "me"


@pytest.mark.parametrize(
    ("name", "speaker"),
    [("go/anna/1.wav", "anna"), ("go/a_b_nohash_0.wav", "me"), ("go/12_nohash_0.wav", "me")],
)
def test_the_usual_speaker_can_have_recordings(tmp_path, name, speaker):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.zeros(RATE), RATE)
    assert usual_speaker(tmp_path) == speaker
    OwnRecordings(tmp_path, usual_speaker(tmp_path), RATE)


def test_undo_leaves_what_has_taken_the_name_of_a_take(tmp_path):
    mine, other = (OwnRecordings(tmp_path, "me", RATE) for _ in range(2))
    path = mine.add("lumos", np.zeros(RATE, np.float32))
    path.unlink()
    assert other.add("lumos", np.ones(RATE, np.float32)) == path
    mine.undo()
    assert path.exists()


def test_it_is_a_corpus_with_room_and_talk(tmp_path):
    for speaker in ("anna", "ben", "cleo"):
        own = OwnRecordings(tmp_path, speaker, RATE)
        for word in ("lumos", "switch it off"):
            own.add(word, SOUND)
        own.add_room(np.tile(SOUND, 3))
        own.add_talk(np.tile(SOUND, 3))
    corpus = open_corpus(tmp_path)
    assert corpus.words == ("lumos", "switch it off")
    assert {clip.speaker for clip in corpus.clips} == {"anna", "ben", "cleo"}
    assert len(corpus.noises) == 3
    assert sum(clip.word == "_unknown_" for clip in corpus.clips) == 3


@pytest.mark.parametrize("word", ["", "a/b", "_unknown_", ".hidden", "x" * 61, "a\nb", 'a"b'])
def test_a_word_that_cannot_be_a_folder_is_refused(tmp_path, word):
    with pytest.raises(UsageError, match="WORD"):
        OwnRecordings(tmp_path, "anna", RATE).add(word, SOUND)


def test_speakers_of_a_single_word_are_told_apart(tmp_path):
    for speaker in ("anna", "ben", "cleo", "dora", "emil"):
        own = OwnRecordings(tmp_path, speaker, RATE)
        for _ in range(3):
            own.add("lumos", SOUND)
    own.add_talk(SOUND)
    corpus = open_corpus(tmp_path)
    assert corpus.split_by == "speaker"
    splits = {clip.speaker: clip.split for clip in corpus.clips}
    assert sorted(splits.values()) == ["testing", *["training"] * 3, "validation"]
    assert all(clip.split == splits[clip.speaker] for clip in corpus.clips)


@pytest.mark.parametrize(
    "speaker", ["an_na", "an-na", "12", "a/b", "", "anna 1", "ben.2", "7up", "room", "Monday"]
)
def test_a_speaker_who_could_not_be_told_apart_is_refused(tmp_path, speaker):
    with pytest.raises(UsageError, match="--speaker"):
        OwnRecordings(tmp_path, speaker, RATE)


@pytest.mark.parametrize("speaker", ["me", "Anna Maria", "child 1", "child 2", "anna1", "Ömer"])
def test_other_names_are_read_off_the_recordings_again(tmp_path, speaker):
    others = ("ben", "cleo")
    for name in (speaker, *others):
        own = OwnRecordings(tmp_path, name, RATE)
        for word in ("lumos", "nox"):
            own.add(word, SOUND)
    read = {clip.speaker for clip in open_corpus(tmp_path).clips}
    assert read == {speaker.replace("child ", "child"), *others}
