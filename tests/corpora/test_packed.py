"""Packed audio: what was decoded once is what the files hold, and nothing else."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechgru.audio.files import read
from speechgru.audio.pcm import FULL_SCALE
from speechgru.audio.samples import fit
from speechgru.corpora import Example, PackedAudio, corpus_fingerprint, open_corpus, pack
from speechgru.corpora.cache import LAST_USED, UNUSED_DAYS, default_cache_dir, locked
from speechgru.errors import DataError, SpeechGRUError

RANDOM = np.random.default_rng(0)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """Three words by three speakers in clips of 0.2 s to 1.8 s, 16-bit."""
    for number, word in enumerate(("auf", "halt", "zu")):
        (tmp_path / "data" / word).mkdir(parents=True)
        for place, speaker in enumerate(("anna", "berta", "carl")):
            samples = RANDOM.integers(-32768, 32768, 3_200 * (1 + number + 3 * place), np.int16)
            soundfile.write(tmp_path / "data" / word / f"{speaker}_1.wav", samples, 16_000)
    return tmp_path / "data"


class Progress:
    """Counts how often something was decoded."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.heard.append((done, total))


def decoded(recordings: Path, cache: Path) -> tuple[PackedAudio, bool]:
    progress = Progress()
    return pack(open_corpus(recordings), cache_dir=cache, progress=progress), bool(progress.heard)


def test_16_bit_recordings_come_back_exactly(recordings: Path, cache: Path) -> None:
    packed, _ = decoded(recordings, cache)
    assert len(packed.paths) == len(packed.lengths) == 9
    for path, length in zip(packed.paths, packed.lengths, strict=True):
        samples, _ = soundfile.read(path, dtype="int16")
        assert len(samples) == length
        np.testing.assert_array_equal(packed.samples(path), samples)
        np.testing.assert_array_equal(packed.samples(path) / FULL_SCALE, read(path))


def test_samples_are_read_only(recordings: Path, cache: Path) -> None:
    packed, _ = decoded(recordings, cache)
    with pytest.raises(ValueError, match="read-only"):
        packed.samples(packed.paths[0])[:] = 0


def test_other_rates_are_resampled_once(fsdd: Path, cache: Path) -> None:
    paths = sorted(fsdd.glob("one/*.flac"))[:5]
    packed = pack(paths, cache_dir=cache)
    for path in paths:
        error = np.abs(packed.samples(path) / FULL_SCALE - read(path))
        assert error.max() <= 0.5 / FULL_SCALE + 1e-7
    assert pack(paths, rate=8_000, cache_dir=cache).lengths.sum() * 2 == packed.lengths.sum()


def test_background_noise_is_packed_too(gsc_open: Path, tmp_path: Path) -> None:
    for folder in ("yes", "no", "_background_noise_"):
        (tmp_path / folder).mkdir()
        for path in sorted((gsc_open / folder).iterdir())[:2]:
            shutil.copy(path, tmp_path / folder)
    corpus = open_corpus(tmp_path)
    packed = pack(corpus, cache_dir=tmp_path / "cache")
    assert len(packed.paths) == 6
    assert len(packed.samples(corpus.noises[0])) > 30 * 16_000


def test_the_second_time_nothing_is_decoded(recordings: Path, cache: Path) -> None:
    first, was_decoded = decoded(recordings, cache)
    second, was_decoded_again = decoded(recordings, cache)
    assert (was_decoded, was_decoded_again) == (True, False)
    np.testing.assert_array_equal(first.buffer, second.buffer)


def test_progress_ends_with_the_total(recordings: Path, cache: Path) -> None:
    progress = Progress()
    pack(open_corpus(recordings), cache_dir=cache, progress=progress)
    assert progress.heard[-1] == (9, 9)


@pytest.mark.parametrize("change", ["content", "new", "gone"])
def test_a_changed_source_is_decoded_again(recordings: Path, cache: Path, change: str) -> None:
    decoded(recordings, cache)
    path = recordings / "zu" / "anna_1.wav"
    if change == "content":
        samples, rate = soundfile.read(path, dtype="int16")
        soundfile.write(path, samples[::-1], rate)
    elif change == "new":
        shutil.copy(path, path.with_name("anna_2.wav"))
    else:
        path.unlink()
    packed, was_decoded = decoded(recordings, cache)
    assert was_decoded
    for path in packed.paths:
        np.testing.assert_array_equal(packed.samples(path) / FULL_SCALE, read(path))


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("samples.s16", lambda content: content[:-2]),
        ("samples.s16", lambda content: content + b"\0"),
        ("samples.s16", lambda content: b""),
        ("index.json", lambda content: content[:-5]),
        ("index.json", lambda content: b"[]"),
        ("samples.s16", lambda content: content[:-2] + b"\1\2"),  # of the right size
        ("index.json", lambda content: content.replace(b'"version": 3', b'"version": 2')),
        ("index.json", lambda content: content.replace(b"[3200, 12800, ", b"[12800, 3200, ")),
        ("index.json", lambda content: content.replace(b"[3200, ", b"[3201, ")),
        ("index.json", lambda content: content.replace(b'"lengths": [3200, ', b'"lengths": [')),
    ],
)
def test_a_damaged_cache_is_decoded_again(recordings: Path, cache: Path, name: str, damage) -> None:
    whole, _ = decoded(recordings, cache)
    samples = whole.buffer.copy()
    (path,) = cache.glob(f"*/{name}")
    content = path.read_bytes()
    path.write_bytes(damage(content))
    assert path.read_bytes() != content
    again, was_decoded = decoded(recordings, cache)
    assert was_decoded
    np.testing.assert_array_equal(again.buffer, samples)
    assert not decoded(recordings, cache)[1]


def test_examples_become_clips_of_one_length(recordings: Path, cache: Path) -> None:
    packed, _ = decoded(recordings, cache)
    short, long = packed.paths[0], packed.paths[-1]
    examples = [
        Example(short, "auf", "auf", "anna"),
        Example(long, "zu", "zu", "carl"),
        Example(None, "_silence_", "_silence_", ""),
        Example(long, "_silence_", "_silence_", "", start_s=0.25),
        Example(long, "_silence_", "_silence_", "", start_s=1.5),
    ]
    clips = packed.gather(examples, 16_000)
    assert (clips.shape, clips.dtype, clips.flags.c_contiguous) == ((5, 16_000), np.int16, True)
    np.testing.assert_array_equal(clips[0] / FULL_SCALE, fit(read(short), 16_000))
    np.testing.assert_array_equal(clips[1] / FULL_SCALE, fit(read(long), 16_000))
    assert not clips[2].any()
    np.testing.assert_array_equal(clips[3], packed.samples(long)[4_000:20_000])
    np.testing.assert_array_equal(clips[4][:4_800], packed.samples(long)[24_000:])
    assert not clips[4][4_800:].any()


def test_recordings_that_were_not_packed_are_errors(recordings: Path, cache: Path) -> None:
    packed, _ = decoded(recordings, cache)
    with pytest.raises(DataError, match=r"other.wav: not among the 9 packed recordings"):
        packed.samples(recordings / "other.wav")


def test_bad_recordings_are_counted_and_leave_no_cache(recordings: Path, cache: Path) -> None:
    (recordings / "halt" / "anna_1.wav").write_bytes(b"")
    (recordings / "zu" / "carl_1.wav").write_bytes(b"RIFF no audio at all")
    with pytest.raises(DataError) as error:
        decoded(recordings, cache)
    message = str(error.value)
    assert "halt/anna_1.wav: empty file" in message
    assert f"2 of 9 recordings cannot be used: `speechgru data check {recordings}`" in message
    assert not list(cache.rglob("*.s16*"))
    assert not list(cache.rglob("index.json"))


def test_deleted_recordings_are_errors(recordings: Path, cache: Path) -> None:
    corpus = open_corpus(recordings)
    corpus.clips[3].path.unlink()
    with pytest.raises(DataError, match=r"halt/anna_1.wav: cannot be read: No such file"):
        pack(corpus, cache_dir=cache)


def test_nothing_to_pack_is_an_error(cache: Path) -> None:
    with pytest.raises(DataError, match="no recordings to decode"):
        pack([], cache_dir=cache)


def test_a_read_only_cache_is_reported(recordings: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SpeechGRUError, match=r"file/.*: cannot be written: .*SPEECHGRU_CACHE"):
        decoded(recordings, tmp_path / "file")


def test_the_environment_names_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path))
    assert default_cache_dir() == tmp_path
    monkeypatch.delenv("SPEECHGRU_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_dir() == tmp_path / ".cache" / "speechgru"


def test_a_user_without_a_home_is_told_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home(path: Path) -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("SPEECHGRU_CACHE", raising=False)
    monkeypatch.setattr(Path, "expanduser", no_home)
    with pytest.raises(SpeechGRUError, match="no home directory; SPEECHGRU_CACHE names another"):
        default_cache_dir()


def test_the_content_of_recordings_has_a_checksum(recordings: Path, cache: Path) -> None:
    """Names, sizes and times may stay the same, or differ, whatever the files hold."""
    before = decoded(recordings, cache)[0].crc32
    copy = shutil.copytree(recordings, recordings.parent / "copy")
    for path in copy.rglob("*.wav"):
        os.utime(path, (0, 0))
    assert decoded(copy, cache)[0].crc32 == before is not None
    path = copy / "zu" / "anna_1.wav"
    content = path.read_bytes()
    path.write_bytes(content[:-2] + b"\1\2")
    assert decoded(copy, cache)[0].crc32 != before


def test_each_channel_is_packed_by_itself(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "stereo.wav"
    frames = RANDOM.integers(-9_000, 9_000, (1_000, 2), np.int16)
    soundfile.write(path, frames, 16_000)
    for channel in (1, 2):
        samples = pack([path], cache_dir=cache, channel=channel).samples(path)
        np.testing.assert_array_equal(samples, frames[:, channel - 1])
    assert not np.array_equal(pack([path], cache_dir=cache).samples(path), frames[:, 0])


def test_recordings_that_were_exchanged_are_decoded_again(recordings: Path, cache: Path) -> None:
    """Their names, sizes and times of change are as before."""
    first, second = sorted(path for path in recordings.rglob("*") if path.is_file())[:2]
    second.write_bytes(first.read_bytes()[:-2] + b"\x01\x02")
    for path in (first, second):
        os.utime(path, (1_700_000_000, 1_700_000_000))
    before = pack([first, second], 16_000, cache)
    samples = before.samples(first).copy()
    aside = first.with_name("aside")
    first.rename(aside)
    second.rename(first)
    aside.rename(second)
    after = pack([first, second], 16_000, cache)
    np.testing.assert_array_equal(after.samples(second), samples)
    assert (after.samples(first) != samples).any()


def test_a_copied_cache_is_only_opened(recordings: Path, cache: Path) -> None:
    decoded(recordings, cache)
    for file in cache.rglob("*.*"):
        os.utime(file, (0, 0))
    assert not decoded(recordings, cache)[1]


def _pack_until_killed(recordings: Path, cache: Path) -> None:
    def die(done: int, total: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    pack(open_corpus(recordings), cache_dir=cache, progress=die)


def test_a_killed_process_leaves_no_valid_cache(recordings: Path, cache: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_pack_until_killed, args=(recordings, cache)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert len(list(cache.rglob(".samples.s16.*.tmp"))) == 1
    _, was_decoded = decoded(recordings, cache)
    assert was_decoded
    names = {path.name for path in cache.rglob("*") if path.is_file()}
    assert names == {"samples.s16", "index.json", "lock"}


@pytest.mark.parametrize("name", ["samples.s16", "index.json"])
def test_what_a_killed_process_wrote_is_deleted(recordings: Path, cache: Path, name: str) -> None:
    folder = decoded(recordings, cache)[0].folder
    assert folder is not None
    (folder / "index.json").unlink()
    leftover = folder / f".{name}.abcd_123.tmp"
    leftover.touch()
    assert decoded(recordings, cache)[1]
    assert not leftover.exists()


def _pack(recordings: Path, cache: Path, queue: "multiprocessing.Queue[bool]") -> None:
    queue.put(decoded(recordings, cache)[1])


@pytest.mark.slow
def test_only_one_of_several_processes_decodes(recordings: Path, cache: Path) -> None:
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    processes = [context.Process(target=_pack, args=(recordings, cache, queue)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert sorted(queue.get(timeout=5) for _ in processes) == [False, False, True]


@pytest.mark.slow
def test_kills_at_any_moment_leave_a_usable_cache(recordings: Path, cache: Path) -> None:
    expected = {path: read(path) for path in sorted(recordings.rglob("*.wav"))}
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()  # kept, as a child cannot open one that is gone
    for number in range(20):
        process = context.Process(target=_pack, args=(recordings, cache, queue))
        process.start()
        deadline = time.monotonic() + 30
        while not cache.exists() and time.monotonic() < deadline:
            time.sleep(0.001)
        assert cache.exists()
        time.sleep(0.0005 * number)
        process.kill()
        process.join()
        packed, _ = decoded(recordings, cache)
        for path, samples in expected.items():
            np.testing.assert_array_equal(packed.samples(path) / FULL_SCALE, samples)
        names = {path.name for path in cache.glob("*/*")}
        assert names <= {"samples.s16", "index.json", "lock", "used"}
        shutil.rmtree(cache)


def age(cache: Path, days: float) -> None:
    """Make all that is there so much older."""
    for path in [*cache.rglob("*")]:
        then = path.stat().st_mtime - 86_400 * days
        os.utime(path, (then, then))


def test_entries_unused_for_a_month_are_deleted(recordings: Path, cache: Path) -> None:
    files = sorted(recordings.glob("*/*.wav"))

    def folder_of(file: Path) -> Path:
        """Pack one recording; gives the folder that is new."""
        before = set(cache.glob("*"))
        pack([file], cache_dir=cache)
        (new,) = set(cache.glob("*")) - before
        return new

    opened, held, forgotten = map(folder_of, files[:3])
    (cache / "mine").mkdir()
    (cache / "mine" / "index.json").touch()
    age(cache, UNUSED_DAYS - 1)
    folder_of(files[3])
    assert forgotten.is_dir()
    age(cache, 2)
    pack(files[:1], cache_dir=cache)  # still there, and opened again
    assert (opened / LAST_USED).exists()
    with locked(held):
        age(held, UNUSED_DAYS)
        folder_of(files[4])
    assert not forgotten.exists()
    assert all(folder.is_dir() for folder in (opened, held, cache / "mine"))
    folder_of(files[5])
    assert not held.exists()


@pytest.mark.slow
def test_a_large_corpus_is_only_opened_the_second_time(gsc_open: Path, cache: Path) -> None:
    first, was_decoded = decoded(gsc_open, cache)
    assert was_decoded
    second, was_decoded = decoded(gsc_open, cache)
    assert not was_decoded
    assert second.paths == first.paths
    assert len(second.paths) == 10_552
    shutil.rmtree(cache)


def test_a_copy_has_the_same_fingerprint(recordings: Path, tmp_path: Path) -> None:
    before = corpus_fingerprint(open_corpus(recordings))
    shutil.copytree(recordings, tmp_path / "copy")
    assert corpus_fingerprint(open_corpus(tmp_path / "copy")) == before
    (recordings / "zu" / "anna_1.wav").rename(recordings / "auf" / "anna_2.wav")
    assert corpus_fingerprint(open_corpus(recordings)) != before
