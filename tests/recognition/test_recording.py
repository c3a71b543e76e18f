import resource
import signal
import wave
from contextlib import contextmanager

import numpy as np
import pytest
import soundfile

from speechgru.decoding.events import Event
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.recognition.recording import AFTER_S, BEFORE_S, EventClips, Keepers, Recorder
from speechgru.recognition.session import Heard, HeardEvent

RATE = 16_000


def noise(seconds, seed=0):
    return np.random.default_rng(seed).uniform(-0.9, 0.9, round(seconds * RATE)).astype(np.float32)


def blocks(samples, size=320):
    return [samples[i : i + size] for i in range(0, len(samples), size)]


@contextmanager
def disk_of(size_bytes):
    """Files of this process can be no larger: writing on fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_recording_is_whole_after_every_block_without_being_closed(tmp_path):
    path, samples = tmp_path / "all.wav", noise(0.2)
    recorder = Recorder(path, RATE)
    with wave.open(str(path)) as file:
        assert (file.getnframes(), file.getframerate()) == (0, RATE)
    heard = 0
    for block in blocks(samples):
        recorder.push(block)
        heard += len(block)
        kept, rate = soundfile.read(path, dtype="float32")  # as after a kill at this moment
        assert rate == RATE
        assert np.abs(kept - samples[:heard]).max() <= 0.5 / 32_768
    recorder.close()


def test_full_scale_is_kept_and_does_not_wrap(tmp_path):
    recorder = Recorder(tmp_path / "all.wav", RATE)
    recorder.push(np.array([1.0, -1.0, 0.0], np.float32))
    recorder.close()
    kept, _ = soundfile.read(tmp_path / "all.wav", dtype="int16")
    assert kept.tolist() == [32_767, -32_768, 0]


def test_a_recording_replaces_no_file_and_is_a_wav(tmp_path):
    (tmp_path / "all.wav").write_text("precious")
    with pytest.raises(UsageError, match=r"all\.wav: is there already"):
        Recorder(tmp_path / "all.wav", RATE)
    assert (tmp_path / "all.wav").read_text() == "precious"
    with pytest.raises(UsageError, match=r"ends in \.wav"):
        Recorder(tmp_path / "all.mp3", RATE)
    with pytest.raises(SpeechGRUError, match="cannot be written"):
        Recorder(tmp_path / "all.wav" / "below.wav", RATE)


def test_a_full_disk_ends_the_recording_and_leaves_it_readable(tmp_path):
    told, samples = [], noise(2.0)
    with disk_of(20_000), Keepers(tmp_path / "all.wav", None, RATE, told.append) as keepers:
        for block in blocks(samples):
            keepers.push(Heard(block, ()))
    assert keepers.failed
    assert len(told) == 1
    assert "cannot be written: File too large; listening goes on" in told[0]
    kept, _ = soundfile.read(tmp_path / "all.wav", dtype="float32")
    assert 9_000 < len(kept) <= 10_000
    assert np.abs(kept - samples[: len(kept)]).max() <= 0.5 / 32_768


@pytest.mark.parametrize("size", [100, 320, 16_000])
def test_an_events_sound_is_kept_with_what_is_around_it(tmp_path, size):
    samples = noise(4.0)
    event = Event("go", start_s=1.5, end_s=1.8, score=0.9, t=2.0)
    clips, written = EventClips(tmp_path, RATE), []
    heard = 0
    for block in blocks(samples, size):
        settled = [event] if heard < event.t * RATE <= heard + len(block) else []
        heard += len(block)
        written += clips.push(block, settled)
        if written:
            assert heard >= (event.end_s + AFTER_S) * RATE
    (path,) = written
    assert path.parent == tmp_path / "go"
    kept, _ = soundfile.read(path, dtype="float32")
    first, last = round((1.5 - BEFORE_S) * RATE), round((1.8 + AFTER_S) * RATE)
    assert np.abs(kept - samples[first:last]).max() <= 0.5 / 32_768


def test_at_the_streams_ends_there_is_as_much_as_was_heard(tmp_path):
    samples = noise(0.5)
    clips = EventClips(tmp_path, RATE)
    event = Event("go", start_s=0.1, end_s=0.4, score=0.9, t=0.45)
    assert clips.push(samples, [event]) == []
    (path,) = clips.flush()
    assert soundfile.info(path).frames == len(samples)
    assert clips.flush() == []


def test_hours_are_forgotten(tmp_path):
    clips = EventClips(tmp_path, RATE)
    for _ in range(200):
        clips.push(np.zeros(RATE, np.float32), [])
    assert sum(map(len, clips._blocks)) <= 11 * RATE


def test_a_word_is_no_path(tmp_path):
    clips = EventClips(tmp_path / "clips", RATE)
    event = Event("../up/.", start_s=0.0, end_s=0.1, score=0.9, t=0.2)
    clips.push(noise(1.0), [event])
    (path,) = (tmp_path / "clips").rglob("*.wav")
    assert path.parent.name == "___up__"


def test_a_folder_that_cannot_be_written_is_told_and_left_out(tmp_path):
    (tmp_path / "file").write_text("")
    told = []
    heard = Heard(noise(1.0), (HeardEvent(Event("go", 0.1, 0.2, 0.9, 0.3), 0.0),))
    with Keepers(None, tmp_path / "file", RATE, told.append) as keepers:
        keepers.push(heard)
        keepers.push(heard)
    assert keepers.failed
    assert len(told) == 1
