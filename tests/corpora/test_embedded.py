import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scripts import load_script

from speechgru.audio.samples import SAMPLE_RATE
from speechgru.corpora import bundled_archives, open_corpus
from speechgru.corpora.corpus import SPLITS, Corpus
from speechgru.corpora.embedded import embedded_archive, embedded_corpus
from speechgru.errors import SpeechGRUError
from speechgru.labels import COMMANDS

PROJECT = Path(__file__).resolve().parents[2]


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def archived() -> dict[str, bytes]:
    with zipfile.ZipFile(BytesIO(embedded_archive())) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return open_corpus(embedded_corpus(tmp_path_factory.mktemp("cache")))


@pytest.fixture
def few(monkeypatch, archived) -> dict[str, bytes]:
    """An archive of two words and the lists, as all of it takes a second to unpack."""
    members = {
        name: content
        for name, content in archived.items()
        if name.endswith(".txt") or name.startswith(("yes/", "no/"))
    }
    with BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        content = file.getvalue()
    monkeypatch.setattr(bundled_archives, "archive_bytes", lambda name: content)
    return members


def test_every_voice_says_every_word_once(corpus):
    assert corpus.layout == "speech-commands"
    voices = {clip.speaker for clip in corpus.clips}
    assert set(COMMANDS) < set(corpus.words)
    assert len(corpus.words) == 20
    assert len(voices) == 74
    message = Counter((clip.speaker, clip.word) for clip in corpus.clips)
    assert message == Counter((voice, word) for voice in voices for word in corpus.words)


def test_voices_and_their_timbres_are_in_one_split(corpus):
    voices = [{clip.speaker for clip in corpus.split(split)} for split in SPLITS]
    assert all(len(of_split) >= 8 for of_split in voices)
    timbres = [{voice.rpartition("-")[2] for voice in of_split} for of_split in voices]
    assert sum(map(len, timbres)) == len(set.union(*timbres))


def test_each_split_has_every_word(corpus):
    for split in SPLITS:
        assert {clip.word for clip in corpus.split(split)} == set(corpus.words)


def test_each_clip_is_one_audible_word_at_16_khz_that_is_not_clipped(corpus):
    for clip in corpus.clips:
        samples, rate = soundfile.read(clip.path, dtype="float32", always_2d=True)
        assert rate == SAMPLE_RATE
        assert samples.shape[1] == 1
        assert 0.25 <= len(samples) / rate <= 1.0, clip.path
        assert 0.1 < np.abs(samples).max() < 0.99, clip.path
        assert np.sqrt(np.mean(samples**2)) > 0.01, clip.path
        # The word is whole: silence is before and after it.
        edges = np.concatenate((samples[: rate // 50], samples[-rate // 50 :]))
        assert np.abs(edges).max() < 0.1 * np.abs(samples).max(), clip.path


def test_background_noises_are_long_and_unlike_one_another(corpus):
    assert len(corpus.noises) == 3
    spectra = []
    for path in corpus.noises:
        samples, rate = soundfile.read(path, dtype="float32")
        assert rate == SAMPLE_RATE
        assert 10 <= len(samples) / rate <= 20
        assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.2
        power = np.abs(np.fft.rfft(samples)) ** 2
        edges = np.searchsorted(np.fft.rfftfreq(len(samples), 1 / rate), [40, 60, 300, 3000])
        spectra.append(np.log10([band.sum() / power.sum() for band in np.split(power, edges)]))
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(spectra[a] - spectra[b]).max() > 1


def test_the_archive_has_only_audio_and_lists(archived):
    assert len(embedded_archive()) <= 2_000_000
    others = {name for name in archived if not name.endswith(".ogg")}
    assert others == {"validation_list.txt", "testing_list.txt"}


def test_unpacked_files_equal_the_archive(tmp_path, archived):
    assert contents(embedded_corpus(tmp_path)) == archived
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [embedded_corpus(tmp_path)]


def test_the_second_time_nothing_is_written(tmp_path, few):
    folder = embedded_corpus(tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert embedded_corpus(tmp_path) == folder
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_damaged_files_are_repaired(tmp_path, few):
    folder = embedded_corpus(tmp_path)
    clips = sorted(folder.glob("*/*.ogg"))
    clips[0].unlink()
    clips[1].write_bytes(clips[1].read_bytes()[:100])
    flipped = bytearray(clips[2].read_bytes())
    flipped[-1] ^= 1
    clips[2].write_bytes(flipped)
    shutil.rmtree(folder / "yes")
    (folder / "testing_list.txt").write_text("")
    assert contents(embedded_corpus(tmp_path)) == few


def test_leftovers_of_a_kill_are_deleted(tmp_path, few):
    folder = embedded_corpus(tmp_path)
    folder.rename(tmp_path / f".{folder.name}.killed")
    assert contents(embedded_corpus(tmp_path)) == few
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == [folder]


def test_the_environment_names_the_cache(tmp_path, monkeypatch, few):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    assert embedded_corpus().parent == tmp_path / "cache"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SpeechGRUError, match=r"file: cannot be written: .*_CACHE"):
        embedded_corpus(tmp_path / "file")


def test_several_processes_unpack_at_once(tmp_path, archived):
    code = (
        "import sys; from pathlib import Path; from speechgru.corpora.embedded import *;"
        "sys.stdin.read(1); print(embedded_corpus(Path(sys.argv[1])))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "cache")]
    pipe = subprocess.PIPE
    processes = [
        subprocess.Popen(command, cwd=PROJECT, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
        for _ in range(4)
    ]
    for process in processes:
        process.stdin.write("x")
        process.stdin.flush()
    answers = [process.communicate() for process in processes]
    assert [error for _, error in answers] == [""] * 4
    folders = {Path(out.strip()) for out, _ in answers}
    assert folders == {path for path in (tmp_path / "cache").iterdir() if path.is_dir()}
    assert contents(folders.pop()) == archived


@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_the_script_makes_the_same_words_from_espeak_ng(corpus):
    script = load_script("make_embedded_corpus")
    first, again = (list(script.voice_clips("en-us+f2", np.random.default_rng(0))) for _ in "ab")
    assert {word for word, _ in first} == set(corpus.words)
    for (_, samples), (_, repeated) in zip(first, again, strict=True):
        assert script.opus(samples) == script.opus(repeated)
        decoded, rate = soundfile.read(BytesIO(script.opus(samples)), dtype="float32")
        assert (rate, decoded.shape) == (SAMPLE_RATE, samples.shape)
        assert np.corrcoef(decoded, samples)[0, 1] > 0.9
