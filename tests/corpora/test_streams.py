"""Streams to score: seeded, at the levels asked for, with a truth that fits."""

import json
import resource
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import soundfile
from listener import tone_split
from tones import RATE, tone

from speechgru.cli import main
from speechgru.corpora.background import NOISE_DB, Background
from speechgru.corpora.split_audio import open_split_audio
from speechgru.corpora.streams import StreamPlan, make_stream, write_stream
from speechgru.corpora.truth import SpokenWord, Truth, read_truth, write_truth
from speechgru.corpora.word_bounds import word_bounds_s
from speechgru.errors import DataError, SpeechGRUError, UsageError


@pytest.fixture(scope="module")
def split():
    """The testing tones."""
    return tone_split()


@pytest.fixture(scope="module")
def commands(gsc_open):
    """Real testing clips with unknown words and background recordings."""
    return open_split_audio(gsc_open, "commands-12", "testing", RATE)


def background_of(audio):
    rng = np.random.default_rng(0)
    return Background(audio.packed, audio.corpus.noises, audio.split, rng)


def rms(samples):
    return np.sqrt(np.square(samples.astype(np.float64) / 32768).mean())


def test_streams_are_reproducible(split):
    plan = StreamPlan(minutes=0.5, seed=3)
    first, second = make_stream(split, plan), make_stream(split, plan)
    np.testing.assert_array_equal(first.samples, second.samples)
    assert first.truth == second.truth
    other = make_stream(split, StreamPlan(minutes=0.5, seed=4))
    assert other.truth.words != first.truth.words


def test_a_stream_has_the_requested_length_and_gaps(split):
    stream = make_stream(split, StreamPlan(minutes=0.7, gap_s=(0.3, 0.9)))
    assert len(stream.samples) == round(0.7 * 60 * RATE)
    assert stream.truth.duration_s == pytest.approx(42.0)
    words = stream.truth.words
    assert len(words) > 25
    for before, after in pairwise(words):
        assert before.end + 0.25 <= after.start <= before.end + 1.0
    assert words[-1].end <= 41.0


def test_words_have_the_drawn_snr(split):
    """White noise at its level in the gaps; where a tone is, the sum of both powers."""
    stream = make_stream(split, StreamPlan(minutes=0.5, snr_db=(5, 25)))
    words = stream.truth.words
    assert {5 <= spoken.snr_db <= 25 for spoken in words} == {True}
    for spoken in words:
        inside = stream.samples[
            round((spoken.start + 0.05) * RATE) : round(spoken.end * RATE) - 800
        ]
        power = 10 ** (NOISE_DB / 10) * (1 + 10 ** (spoken.snr_db / 10))
        assert 20 * np.log10(rms(inside)) == pytest.approx(10 * np.log10(power), abs=0.7)
    gap = stream.samples[round(words[0].end * RATE) + 500 : round(words[1].start * RATE) - 500]
    assert 20 * np.log10(rms(gap)) == pytest.approx(NOISE_DB, abs=0.5)


@pytest.mark.parametrize(("snr_db", "lower_db"), [(20, 0), (30, 0), (40, 10), (60, 30)])
def test_loud_words_are_not_clipped(split, snr_db, lower_db):
    stream = make_stream(split, StreamPlan(minutes=0.3, snr_db=(snr_db, snr_db)))
    assert np.abs(stream.samples.astype(int)).max() < 32_767
    first, second = stream.truth.words[:2]
    gap = stream.samples[round(first.end * RATE) + 500 : round(second.start * RATE) - 500]
    assert 20 * np.log10(rms(gap)) == pytest.approx(NOISE_DB - lower_db, abs=0.5)
    word = stream.samples[round(first.start * RATE) + 800 : round(first.end * RATE) - 800]
    assert 20 * np.log10(rms(word)) == pytest.approx(NOISE_DB + snr_db - lower_db, abs=0.7)


def test_clips_repeat_only_after_all_others_of_their_word(split):
    stream = make_stream(split, StreamPlan(minutes=1.2))
    by_word = {}
    for spoken in stream.truth.words:
        by_word.setdefault(spoken.word, []).append(spoken.file)
    assert len(by_word) == 3
    for files in by_word.values():
        assert len(files) > 6
        for first in range(0, len(files), 6):
            assert max(Counter(files[first : first + 6]).values()) == 1


def test_real_streams_have_unknown_words_and_background(commands):
    stream = make_stream(commands, StreamPlan(minutes=4, seed=1))
    words = stream.truth.words
    unknown = [spoken for spoken in words if spoken.word == "_unknown_"]
    assert len(unknown) / len(words) == pytest.approx(0.4, abs=0.15)
    assert not {spoken.said for spoken in unknown} & {"yes", "no", "up", "down", "go"}
    assert len({spoken.word for spoken in words}) == 11
    durations = [spoken.end - spoken.start for spoken in words]
    assert 0.3 < np.median(durations) < 0.6
    testing = {
        clip.path.relative_to(commands.corpus.root).as_posix()
        for clip in commands.corpus.split("testing")
    }
    assert {spoken.file for spoken in words} <= testing
    words_first = make_stream(commands, StreamPlan(minutes=1, unknown=0.0))
    assert "_unknown_" not in {spoken.word for spoken in words_first.truth.words}


def test_pieces_of_long_recordings_are_as_long_as_clips(tmp_path):
    """Other speech is cut up for training, and so it is in a stream of the training split."""
    rng = np.random.default_rng(0)
    for folder, duration_s in {"go": 0.8, "stop": 0.8, "_unknown_": 9.0}.items():
        (tmp_path / folder).mkdir()
        for number in range(3):
            samples = rng.normal(0, 0.05, round(duration_s * RATE))
            soundfile.write(tmp_path / folder / f"{number}.wav", samples, RATE)
    audio = open_split_audio(tmp_path, "folder", "training", RATE)
    stream = make_stream(audio, StreamPlan(minutes=2, unknown=0.5))
    lengths_s = [word.end - word.start for word in stream.truth.words if word.word == "_unknown_"]
    assert lengths_s
    assert max(lengths_s) <= audio.task.clip_s + 0.01


def test_background_has_the_same_level_in_every_scene(commands):
    background = background_of(commands)
    heard = background.take(120 * RATE)
    seconds = np.sqrt(np.square(heard.reshape(-1, 5 * RATE)).mean(axis=1))
    assert 20 * np.log10(np.median(seconds)) == pytest.approx(NOISE_DB, abs=4)
    # In pieces it is what it is at once.
    pieces = background_of(commands)
    in_pieces = [pieces.take(n) for n in (0, 1, 700_000, 120 * RATE - 700_001)]
    np.testing.assert_array_equal(np.concatenate(in_pieces), heard)


@pytest.mark.parametrize("word", ["low", "mid", "high"])
@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_words_are_where_their_energy_is(word, noise):
    rng = np.random.default_rng(0)
    clip = rng.normal(0, noise, RATE)
    clip[6_000:11_000] += tone(word, 0)[:5_000]
    start_s, end_s = word_bounds_s(clip, RATE)
    assert start_s == pytest.approx(6_000 / RATE, abs=0.021)
    assert end_s == pytest.approx(11_000 / RATE, abs=0.021)


def test_words_include_short_pauses_but_no_distant_clicks():
    clip = np.random.default_rng(0).normal(0, 1e-3, RATE)
    clip[6_000:9_000] += tone("mid", 0)[:3_000]
    clip[10_500:11_500] += tone("high", 0)[:1_000]
    clip[1_000:1_100] += 0.2
    start_s, end_s = word_bounds_s(clip, RATE)
    assert start_s == pytest.approx(6_000 / RATE, abs=0.021)
    assert end_s == pytest.approx(11_500 / RATE, abs=0.021)


@pytest.mark.parametrize("clip", [np.zeros(RATE), np.full(RATE, 0.1), np.zeros(100)])
def test_a_clip_of_uniform_level_is_one_word(clip):
    assert word_bounds_s(clip, RATE) == (0.0, len(clip) / RATE)


@pytest.mark.parametrize("suffix", ["flac", "wav"])
def test_a_written_stream_equals_the_one_in_memory(split, tmp_path, suffix):
    plan = StreamPlan(minutes=0.3)
    path = tmp_path / f"stream.{suffix}"
    truth = write_stream(path, split, plan)
    samples, rate = soundfile.read(path, dtype="int16")
    expected = make_stream(split, plan)
    np.testing.assert_array_equal(samples, expected.samples)
    assert rate == RATE
    assert read_truth(tmp_path / "stream.json") == truth == expected.truth


def test_a_full_disk_leaves_no_partial_stream(split, tmp_path):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(SpeechGRUError, match=r"stream\.wav: cannot be written"):
            write_stream(tmp_path / "stream.wav", split, StreamPlan(minutes=0.5))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"minutes": 0}, "minutes 0"),
        ({"minutes": float("nan")}, "minutes nan"),
        ({"snr_db": (20, 5)}, "snr 20:5"),
        ({"gap_s": (-1, 2)}, "gap -1:2"),
        ({"unknown": 1.0}, "unknown 1"),
    ],
)
def test_invalid_stream_plans_are_errors(changes, message):
    with pytest.raises(UsageError, match=message):
        StreamPlan(**changes)


def spoken(word, start, end):
    return SpokenWord(word=word, start=start, end=end)


def test_truth_files_are_sorted_and_round_trip(tmp_path):
    truth = Truth(duration_s=9.0, words=(spoken("b", 3, 4), spoken("a", 1, 2)))
    assert [entry.word for entry in truth.words] == ["a", "b"]
    write_truth(truth, tmp_path / "t.json")
    assert read_truth(tmp_path / "t.json") == truth


def test_a_truth_file_needs_only_words(tmp_path):
    path = tmp_path / "t.json"
    path.write_text('{"words": [{"word": "go", "start": 1.2, "end": 1.5}]}')
    read_truth(path).check_fits(2.0, ("go",), "t.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "Invalid JSON"),
        ("[1]", r"\[1\]: input should be an object"),
        ("{}", "words is missing"),
        ('{"words": [{"word": "go", "start": 2, "end": 1}]}', "end 1 must come after start 2"),
        ('{"words": [{"word": "go", "start": -1, "end": 1}]}', r"words\.0\.start"),
        ('{"words": [{"word": "go", "begin": 0, "end": 1}]}', r"words\.0\.start"),
        ('{"words": [], "version": 2}', "version"),
    ],
)
def test_invalid_truth_files_are_reported(tmp_path, content, message):
    path = tmp_path / "t.json"
    path.write_text(content)
    with pytest.raises(DataError, match=rf"t\.json: .*{message}"):
        read_truth(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_truth(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("duration_s", "labels", "message"),
    [
        (8.0, ("go",), r"describes 9\.000 s of audio, but the audio has 8\.000 s"),
        (9.0, ("stop",), "the model has no word 'go'"),
    ],
)
def test_a_truth_of_another_recording_or_vocabulary_is_an_error(duration_s, labels, message):
    truth = Truth(duration_s=9.0, words=(spoken("go", 1, 2),))
    with pytest.raises(DataError, match=rf"t\.json: {message}"):
        truth.check_fits(duration_s, labels, "t.json")


def test_words_after_the_end_of_the_audio_are_errors():
    with pytest.raises(DataError, match=r"'go' ends at 2\.000 s, but the audio has 1\.500 s"):
        Truth(words=(spoken("go", 1, 2),)).check_fits(1.5, ("go",), "t.json")


def test_data_stream_on_the_command_line(split, tmp_path, capsys):
    manifest = str(split.corpus.root / "tones.csv")
    out = str(tmp_path / "s.flac")
    options = ["--minutes", "0.2", "--snr", "10", "--gap", "0.1:0.3"]
    assert main(["data", "stream", manifest, "-o", out, *options, "--json"]) == 0
    reported = json.loads(capsys.readouterr().out)
    truth = read_truth(tmp_path / "s.json")
    assert reported["words"] == len(truth.words) > 5
    assert reported["unknown_words"] == 0
    assert reported["protocol"] == "folder"  # as the commands of commands-12 are not there
    assert reported["snr_db"] == [10, 10]
    assert {entry.snr_db for entry in truth.words} == {10.0}
    assert soundfile.info(out).frames == round(0.2 * 60 * RATE)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["-o", "s.mp3"], 2, ".flac or .wav"),
        (["-o", "s.flac", "--snr", "loud"], 2, "--snr loud: two numbers LOW:HIGH"),
        (["-o", "s.flac", "--gap", "2:1"], 2, "gap 2:1"),
        (["-o", "s.flac", "--protocol", "v3"], 2, "v3"),
        (["-o", "/dev/null/s.flac"], 1, "/dev/null/s.flac: cannot be written"),
    ],
)
def test_data_stream_names_wrong_options(
    split, tmp_path, capsys, monkeypatch, options, code, message
):
    monkeypatch.chdir(tmp_path)
    manifest = str(split.corpus.root / "tones.csv")
    arguments = ["data", "stream", manifest, "--minutes", "0.1", "--protocol", "folder", *options]
    assert main(arguments) == code
    assert message in capsys.readouterr().err
    assert list(tmp_path.glob("**/*.flac")) == []
