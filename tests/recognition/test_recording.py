import json
import resource
import signal
import threading
import tracemalloc
import wave
from contextlib import contextmanager

import numpy as np
import psutil
import pytest
import soundfile

from speechgru.corpora import open_corpus
from speechgru.decoding.detector import Verdict
from speechgru.decoding.events import Event
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.recording import AFTER_S, BEFORE_S, EventClips, StreamSaver, WavRecorder
from speechgru.recognition.session import BlockResult, TimedEvent

RATE = 16_000


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, round(seconds * RATE)).astype(np.float32)


def blocks(samples, size=320):
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@contextmanager
def disk_with(size_bytes):
    """Files of this process can be no larger: writing on fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_recording_is_readable_after_every_block(tmp_path):
    path, samples = tmp_path / "all.wav", noise(0.2)
    recorder = WavRecorder(path, RATE)
    with wave.open(str(path)) as file:
        assert (file.getnframes(), file.getframerate()) == (0, RATE)
    pushed = 0
    for block in blocks(samples):
        recorder.push(block)
        pushed += len(block)
        saved, rate = soundfile.read(path, dtype="float32")  # as after a kill at this moment
        assert rate == RATE
        assert np.abs(saved - samples[:pushed]).max() <= 0.5 / 32_768
    recorder.close()


def test_full_scale_does_not_wrap_around(tmp_path):
    recorder = WavRecorder(tmp_path / "all.wav", RATE)
    recorder.push(np.array([1.0, -1.0, 0.0], np.float32))
    recorder.close()
    saved, _ = soundfile.read(tmp_path / "all.wav", dtype="int16")
    assert saved.tolist() == [32_767, -32_768, 0]


def test_a_recording_never_replaces_a_file(tmp_path):
    (tmp_path / "all.wav").write_text("precious")
    with pytest.raises(UsageError, match=r"all\.wav: exists already"):
        WavRecorder(tmp_path / "all.wav", RATE)
    assert (tmp_path / "all.wav").read_text() == "precious"
    with pytest.raises(UsageError, match=r"has to end in \.wav"):
        WavRecorder(tmp_path / "all.mp3", RATE)
    with pytest.raises(SpeechGRUError, match="cannot be written"):
        WavRecorder(tmp_path / "all.wav" / "below.wav", RATE)


def test_a_full_disk_leaves_a_readable_recording(tmp_path):
    reported, samples = [], noise(2.0)
    with disk_with(20_000), StreamSaver(tmp_path / "all.wav", None, RATE, reported.append) as saver:
        for block in blocks(samples):
            saver.push(BlockResult(block, ()))
        assert not [one for one in psutil.Process().open_files() if "all.wav" in one.path]
    assert saver.failed
    assert len(reported) == 1
    assert "cannot be written: File too large; listening goes on" in reported[0]
    saved, _ = soundfile.read(tmp_path / "all.wav", dtype="float32")
    assert 9_000 < len(saved) <= 10_000
    assert np.abs(saved - samples[: len(saved)]).max() <= 0.5 / 32_768


@pytest.mark.parametrize("size", [100, 320, 16_000])
def test_a_clip_has_the_event_and_the_sound_around_it(tmp_path, size):
    samples = noise(4.0)
    event = Event("go", start_s=1.5, end_s=1.8, score=0.9, t=2.0)
    clips, written = EventClips(tmp_path, RATE), []
    pushed = 0
    for block in blocks(samples, size):
        events = [event] if pushed < event.t * RATE <= pushed + len(block) else []
        pushed += len(block)
        written += clips.push(block, events)
        if written:
            assert pushed >= (event.end_s + AFTER_S) * RATE
    (path,) = written
    assert path.parent == tmp_path / "go"
    saved, _ = soundfile.read(path, dtype="float32")
    first, last = round((1.5 - BEFORE_S) * RATE), round((1.8 + AFTER_S) * RATE)
    assert np.abs(saved - samples[first:last]).max() <= 0.5 / 32_768


def test_a_clip_is_shorter_at_the_ends_of_the_stream(tmp_path):
    samples = noise(0.5)
    clips = EventClips(tmp_path, RATE)
    event = Event("go", start_s=0.1, end_s=0.4, score=0.9, t=0.45)
    assert clips.push(samples, [event]) == []
    (path,) = clips.flush()
    assert soundfile.info(path).frames == len(samples)
    assert clips.flush() == []


def test_an_event_may_be_late(tmp_path):
    """A minute's gap arrives before the event ahead of it; without `late_s` that is forgotten."""
    samples, gap = noise(1.5), np.zeros(60 * RATE, np.float32)
    event = Event("go", 0.3, 0.6, score=0.9, t=0.7)
    clips = EventClips(tmp_path / "kept", RATE, late_s=60.0)
    for block in (samples, gap):
        assert clips.push(block, []) == []
    (path,) = clips.push(np.zeros(0, np.float32), [event])
    saved, _ = soundfile.read(path, dtype="float32")
    assert np.abs(saved - samples[: len(saved)]).max() <= 0.5 / 32_768
    assert len(saved) == round((0.6 + AFTER_S) * RATE)
    clips = EventClips(tmp_path / "forgotten", RATE)
    for block in (samples, *blocks(gap)):
        clips.push(block, [])
    (path,) = clips.push(np.zeros(0, np.float32), [event])
    assert soundfile.info(path).frames == 0


def test_memory_does_not_grow_with_the_stream(tmp_path):
    clips = EventClips(tmp_path, RATE)
    clips.push(np.zeros(20 * RATE, np.float32), [])
    tracemalloc.start()
    for _ in range(100):
        clips.push(np.zeros(RATE, np.float32), [])
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 12 * RATE * 4


WORDS = [
    "turn on",
    "turn_on",
    "turn-on!",
    "größe 🙂",
    "and/or",
    "and:or",
    "../up/.",
    "con",
    "x" * 300,
]


def test_clips_are_a_corpus_of_the_same_words(tmp_path):
    """Whatever a word is: its folder is named like it if that is possible, and read as it."""
    for _ in range(2):  # the second session finds the folders of the first
        clips = EventClips(tmp_path / "clips", RATE)
        for i, word in enumerate(WORDS):
            clips.push(noise(1.0), [Event(word, i + 0.1, i + 0.2, score=0.9, t=i + 0.3)])
        clips.flush()
    assert (tmp_path / "clips" / "turn on").is_dir()
    assert (tmp_path / "clips" / "größe 🙂").is_dir()
    assert len(list((tmp_path / "clips").iterdir())) == len(WORDS)
    assert set(open_corpus(tmp_path / "clips").words) == set(WORDS)


def test_a_folder_that_cannot_be_written_is_reported_once(tmp_path):
    (tmp_path / "file").write_text("")
    reported = []
    pushed = BlockResult(noise(1.0), (TimedEvent(Event("go", 0.1, 0.2, 0.9, 0.3), 0.0),))
    with StreamSaver(None, tmp_path / "file", RATE, reported.append) as saver:
        saver.push(pushed)
        saver.push(pushed)
    assert saver.failed
    assert len(reported) == 1


def test_description_beside_a_clip_has_the_word_the_score_and_the_model(tmp_path):
    clips = EventClips(tmp_path, RATE, model="runs/mine")
    near = Verdict("and/or", 0.1, 0.5, t=0.4, score=0.41, threshold=0.6, gate="threshold")
    event = Event("and/or", start_s=1.1, end_s=1.4, score=0.9, t=1.45)
    clips.push(noise(2.0), [event], [near])
    paths = sorted(tmp_path.rglob("*.wav"))
    assert [path.parent for path in paths] == [
        tmp_path / "_near_misses_" / "and-or",
        tmp_path / "and-or",
    ]
    nearly, fired = (json.loads(path.with_suffix(".json").read_text()) for path in paths)
    assert (fired["kind"], fired["word"], fired["score"]) == ("event", "and/or", 0.9)
    assert (fired["start"], fired["end"], fired["t"]) == (1.1, 1.4, 1.45)
    assert fired["model"] == nearly["model"] == "runs/mine"
    assert (nearly["kind"], nearly["word"], nearly["score"]) == ("near miss", "and/or", 0.41)
    assert (nearly["threshold"], nearly["held_by"]) == (0.6, "threshold")
    corpus = open_corpus(tmp_path)  # of the events alone
    assert [clip.path for clip in corpus.clips] == [paths[1]]


def test_two_listeners_of_the_same_second_overwrite_nothing(tmp_path):
    event = Event("go", start_s=0.1, end_s=0.4, score=0.9, t=0.45)
    for _ in range(2):
        clips = EventClips(tmp_path, RATE)
        clips._started = "20260101-000000"
        clips.push(noise(1.0), [event])
    assert len(list((tmp_path / "go").glob("*.wav"))) == 2
    assert len(list((tmp_path / "go").glob("*.json"))) == 2


def test_listeners_of_the_same_moment_overwrite_nothing(tmp_path):
    event = Event("go", start_s=0.1, end_s=0.4, score=0.9, t=0.45)
    start = threading.Barrier(8)

    def listen(seed):
        clips = EventClips(tmp_path, RATE)
        clips._started = "20260101-000000"
        start.wait()
        clips.push(noise(1.0, seed), [event])

    listeners = [threading.Thread(target=listen, args=(seed,)) for seed in range(8)]
    for listener in listeners:
        listener.start()
    for listener in listeners:
        listener.join()
    saved = [path.read_bytes() for path in (tmp_path / "go").glob("*.wav")]
    assert len(set(saved)) == 8
    assert len(list((tmp_path / "go").glob("*.json"))) == 8
