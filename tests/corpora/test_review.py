"""Review of caught clips: where each goes, undo, going on another day, nothing lost."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.corpora import open_corpus
from speechgru.corpora.own_recordings import OwnRecordings
from speechgru.corpora.review import Review, caught_clips
from speechgru.decoding.events import Event
from speechgru.errors import DataError, SpeechGRUError, UsageError
from speechgru.recognition.recording import EventClips

RATE = 16_000


@pytest.fixture
def data(tmp_path):
    for word in ("go", "stop"):
        for speaker in ("anna", "ben", "cleo"):
            for take in (1, 2):
                path = tmp_path / "own" / word / f"{speaker}_{take}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, noise(len(word) + take), RATE)
    return tmp_path / "own"


@pytest.fixture
def caught(tmp_path):
    """Four events, as `listen --save-dir` saves them, and one clip by nobody's hand."""
    clips = EventClips(tmp_path / "caught", RATE, model="runs/mine")
    for i, word in enumerate(["go", "stop", "go", "go"]):
        clips.push(noise(i, 1.0), [Event(word, i + 0.3, i + 0.5, score=0.8, t=i + 0.55)])
    clips.flush()
    (tmp_path / "caught" / "go" / "zz.wav").write_bytes(b"RIFF")
    return tmp_path / "caught"


def noise(seed, seconds=0.5):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, int(seconds * RATE))


def files(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


def test_each_decision_has_its_place_and_originals_stay(data, caught):
    before, own = files(caught), files(data)
    review = Review(caught, data, "anna")
    assert [clip.word for clip in review.clips] == ["go", "stop", "go", "go", "go"]
    assert review.clips[0].model == "runs/mine"
    first, second, third, fourth, last = review.clips
    assert review.decide(first, "right").path == data / "go" / "anna_3.wav"
    assert review.decide(second, "word", "go", "ben").path == data / "go" / "ben_3.wav"
    assert review.decide(third, "speech").path == data / "_unknown_" / "alarm_1.wav"
    assert review.decide(fourth, "noise").path == data / "_background_noise_" / "alarm_1.wav"
    assert review.decide(last, "discard").path is None
    assert review.pending == []
    after = files(data)
    assert own.items() <= after.items()
    for name, clip in (("go/anna_3", first), ("go/ben_3", second), ("_unknown_/alarm_1", third)):
        assert after[f"{name}.wav"] == clip.path.read_bytes()
        assert json.loads(after[f"{name}.json"])["word"] == clip.word
    assert before.items() <= files(caught).items()
    corpus = open_corpus(data)
    assert {clip.speaker for clip in corpus.clips if clip.word == "go"} == {"anna", "ben", "cleo"}
    assert [clip.speaker for clip in corpus.clips if clip.word == "_unknown_"] == [""]
    assert corpus.skipped == ()


def test_review_goes_on_where_it_stopped(data, caught):
    one = Review(caught, data, "anna")
    one.decide(one.pending[0], "right")
    one.decide(one.pending[0], "speech")
    two = Review(caught, data, "ben")
    assert len(two.pending) == 3
    assert two.counts == {"right": 1, "word": 0, "speech": 1, "noise": 0, "discard": 0}
    with pytest.raises(UsageError, match="was reviewed already"):
        two.find(one.clips[0].name)
    # A decision of another day is undone, too.
    undone = two.undo()
    assert undone is not None
    assert (undone.clip, undone.decision) == (one.clips[1], "speech")
    assert not (data / "_unknown_" / "alarm_1.wav").exists()
    assert len(Review(caught, data, "anna").pending) == 4


def test_undo_finds_the_copy_from_another_directory(data, caught, monkeypatch):
    monkeypatch.chdir(data.parent)
    relative = Review(Path("caught"), Path("own"), "anna")
    copy = relative.decide(relative.pending[0], "right").path
    assert copy == Path("own/go/anna_3.wav")
    assert Review(Path("caught"), Path("own"), "anna").undo().path == copy
    assert not copy.exists()
    relative.decide(relative.clips[0], "right")
    monkeypatch.chdir(data)
    undone = Review(Path("../caught"), data, "anna").undo()
    assert undone.path == data / "go" / "anna_3.wav"
    assert not undone.path.exists()


def test_undo_is_of_the_last_decision_also_if_its_clip_is_gone(data, caught):
    review = Review(caught, data, "anna")
    first = review.decide(review.pending[0], "right")
    second = review.decide(review.pending[0], "speech")
    second.clip.path.unlink()
    again = Review(caught, data, "anna")
    assert again.counts["speech"] == 0
    undone = again.undo()
    assert undone.clip.name == second.clip.name
    assert undone.note == f"{second.path}: stays, as the caught clip is gone"
    assert second.path.exists()
    assert first.path.exists()


def test_undo_says_if_the_copy_is_no_longer_there(data, caught):
    review = Review(caught, data, "anna")
    filed = review.decide(review.pending[0], "right")
    (data / "go").rename(data / "went")
    undone = review.undo()
    assert undone == filed
    assert undone.note == f"{filed.path}: is no longer there, so nothing was deleted"
    assert (data / "went" / filed.path.name).exists()


def test_undo_deletes_no_file_that_was_changed(data, caught):
    review = Review(caught, data, "anna")
    path = review.decide(review.pending[0], "right").path
    assert path is not None
    path.write_bytes(b"cut by hand")
    assert review.undo() is not None
    assert path.read_bytes() == b"cut by hand"
    assert review.undo() is None


def test_undo_deletes_no_recording_that_was_there_before(data, caught):
    """Such as one's own copy of the same clip."""
    own = data / "go" / "anna_3.wav"
    own.write_bytes(caught_clips(caught)[0].path.read_bytes())
    review = Review(caught, data, "anna")
    assert review.decide(review.pending[0], "right").path == own
    again = Review(caught, data, "anna")
    assert again.undo() is not None
    assert own.exists()
    assert len(again.pending) == 5


def test_a_clip_that_is_gone_can_only_be_discarded(data, caught):
    review = Review(caught, data, "anna")
    clip = review.pending[0]
    clip.path.unlink()
    with pytest.raises(UsageError, match=r"\.wav: cannot be read: No such file"):
        review.decide(clip, "speech")
    assert review.decide(clip, "discard").path is None


def test_a_damaged_clip_can_only_be_discarded(data, caught):
    """Filed, it would stop the next training."""
    review = Review(caught, data, "anna")
    clip = review.pending[0]
    clip.path.write_bytes(bytes(50))
    own = files(data)
    for decision in ("right", "speech", "noise"):
        with pytest.raises(UsageError, match=r"\.wav: not a readable .* can only be discarded"):
            review.decide(clip, decision)
    assert files(data) == own
    assert review.decide(clip, "discard").path is None


@pytest.mark.parametrize("content", [b"[1, 2]", b'{"word": 5}', b"\xff\xfe{", b"{}"])
def test_a_description_without_the_word_is_named(data, caught, content):
    clip = caught_clips(caught)[0]
    clip.path.with_suffix(".json").write_bytes(content)
    again = caught_clips(caught)[0]
    assert again.word == clip.path.parent.name
    assert f"{clip.path.stem}.json: does not say which word" in again.problem
    assert "problem" not in again.as_dict()


def test_copy_of_a_killed_review_is_not_made_twice(data, caught):
    review = Review(caught, data, "anna")
    review.decide(review.pending[0], "right")
    log = caught / "review.jsonl"
    log.write_text(log.read_text()[:-20])  # killed while the line was written
    again = Review(caught, data, "anna")
    assert len(again.pending) == 5
    assert again.decide(again.pending[0], "right").path == data / "go" / "anna_3.wav"
    assert not (data / "go" / "anna_4.wav").exists()


def test_a_review_goes_on_after_one_that_was_killed(data, caught):
    log = caught / "review.jsonl"
    with Review(caught, data, "anna").lock() as review:
        review.decide(review.pending[0], "right")
        review.decide(review.pending[0], "discard")
    log.write_text(log.read_text()[:-20])
    with Review(caught, data, "anna").lock() as review:
        assert len(review.pending) == 4
        review.decide(review.pending[0], "speech")
    assert len(Review(caught, data, "anna").pending) == 3


def test_undo_keeps_the_copy_of_another_clip_with_the_same_sound(data, caught):
    first = caught_clips(caught)[0]
    twin = first.path.with_name("zzz.wav")
    twin.write_bytes(first.path.read_bytes())
    review = Review(caught, data, "anna")
    same = [clip for clip in review.clips if clip.path in (first.path, twin)]
    (path,) = {review.decide(clip, "right").path for clip in same}
    review.undo()
    assert path.exists()
    review.undo()
    assert not path.exists()


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"file": ["a"], "decision": "right", "to": "x"}',
        '{"file": "a", "decision": "right", "to": 7}',
        '{"file": "a", "decision": {}, "to": null}',
    ],
)
def test_damaged_note_is_an_error(line, data, caught):
    (caught / "review.jsonl").write_text(f"{line}\n{{}}\n")
    with pytest.raises(DataError, match=r"review\.jsonl, line 1: not a decision"):
        Review(caught, data, "anna")


@pytest.mark.parametrize("score", ["NaN", "Infinity", "1" + "0" * 400, '"high"'])
def test_description_with_an_impossible_score_has_none(score, data, caught):
    clip = caught_clips(caught)[0].path
    clip.with_suffix(".json").write_text(f'{{"word": "go", "score": {score}}}')
    found = caught_clips(caught)[0]
    assert found.word == "go"
    assert found.score is None


def test_names_of_words_are_not_bent(tmp_path):
    words = ["and/or", "größe", "turn on"]
    clips = EventClips(tmp_path / "own", RATE)  # folders with word.json where needed
    for i, word in enumerate(words):
        clips.push(noise(i, 1.0), [Event(word, i + 0.3, i + 0.5, score=0.8, t=i + 0.55)])
    clips.flush()
    review = Review(tmp_path / "own", tmp_path / "own", "anna")
    assert review.words == sorted(words)
    for clip in review.pending:
        filed = review.decide(clip, "right")
        assert filed.path is not None
    assert set(open_corpus(tmp_path / "own").words) == set(words)


def test_recordings_in_split_folders_are_filed_for_training(data, caught, tmp_path):
    for split in ("training", "testing"):
        (tmp_path / "split" / split).mkdir(parents=True)
    for word in ("go", "stop"):
        (data / word).rename(tmp_path / "split" / "training" / word)
        (tmp_path / "split" / "testing" / word).mkdir()
        soundfile.write(tmp_path / "split" / "testing" / word / "dan_1.wav", noise(9), RATE)
    review = Review(caught, tmp_path / "split", "anna")
    filed = review.decide(review.pending[0], "speech")
    assert filed.path == tmp_path / "split" / "training" / "_unknown_" / "alarm_1.wav"


def test_what_cannot_be_reviewed_is_a_sentence(data, caught, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no recording"):
        caught_clips(tmp_path / "empty")
    with pytest.raises(UsageError, match="holds no word's folder"):
        Review(caught, tmp_path / "empty", "anna")
    (tmp_path / "empty" / "go").mkdir()
    with pytest.raises(UsageError, match="its folders hold no recordings of words yet"):
        Review(caught, tmp_path / "empty", "anna")
    with pytest.raises(UsageError, match="a directory of word folders is needed"):
        Review(caught, tmp_path / "none.csv", "anna")
    with pytest.raises(UsageError, match="--speaker an_na"):
        Review(caught, data, "an_na")
    review = Review(caught, data, "anna")
    with pytest.raises(UsageError, match="has no such word; there are go, stop"):
        review.decide(review.pending[0], "word", "sotp")
    assert len(review.pending) == 5
    with (
        review.lock(),
        pytest.raises(SpeechGRUError, match="another process"),
        Review(caught, data, "x").lock(),
    ):
        pass


def test_false_alarms_do_not_change_who_speaks_or_how_words_are_split(data, caught):
    for word in ("go", "stop"):
        for number, speaker in enumerate(("dora", "emil"), 9):
            soundfile.write(data / word / f"{speaker}_1.wav", noise(number), RATE)
    before = open_corpus(data)
    for number in range(1, 60):
        path = data / "_unknown_" / f"alarm_{number}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(number), RATE)
    after = open_corpus(data)
    assert (after.split_by, before.split_by) == ("speaker", "speaker")
    words = [clip for clip in after.clips if clip.word != "_unknown_"]
    assert words == list(before.clips)


def test_a_name_with_another_separator_of_lines_is_reviewed_again(data, tmp_path):
    path = tmp_path / "caught" / "go" / "a\u2028b.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, noise(1), RATE)
    review = Review(tmp_path / "caught", data, "anna")
    with review.lock():
        review.decide(review.clips[0], "right")
    again = Review(tmp_path / "caught", data, "anna")
    with again.lock():
        assert again.pending == []


def test_a_number_whose_name_is_taken_in_another_spelling_is_passed_over(data, monkeypatch):
    """As where the case of letters does not count."""
    recordings = OwnRecordings(data, "Anna", RATE)
    exists = Path.exists
    folded = {str(path).casefold() for path in (data / "go").iterdir()}
    monkeypatch.setattr(Path, "exists", lambda path: exists(path) or str(path).casefold() in folded)
    assert recordings.add("go", noise(3)) == data / "go" / "Anna_3.wav"


def test_reviews_and_a_recording_at_once_take_no_number_twice(data, tmp_path):
    clips = [EventClips(tmp_path / name, RATE, model="m") for name in ("one", "two")]
    for turn, folder in enumerate(clips):
        for i in range(20):
            event = Event("go", i + 0.3, i + 0.5, score=0.8, t=i + 0.55)
            folder.push(noise(100 * turn + i, 1.0), [event])
        folder.flush()

    def file_all(name):
        review = Review(tmp_path / name, data, "anna")
        for clip in list(review.pending):
            review.decide(clip, "right")

    def record(_):
        recordings = OwnRecordings(data, "anna", RATE)
        for take in range(20):
            recordings.add("go", noise(1000 + take))

    works = ((file_all, "one"), (file_all, "two"), (record, None))
    with ThreadPoolExecutor(3) as threads:
        for work in [threads.submit(function, argument) for function, argument in works]:
            work.result()
    assert len(list((data / "go").glob("anna_*.wav"))) == 2 + 60
