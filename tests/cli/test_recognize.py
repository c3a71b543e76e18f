"""`speechgru recognize`, as it is typed, on good files and bad ones."""

import json

import numpy as np
import pytest
import soundfile
from tones import RATE, TONES_HZ, tone, trained_model

from speechgru.cli import main
from speechgru.modelfile.safetensors import save_model


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "tones.safetensors"
    save_model(trained_model(), path)
    return str(path)


@pytest.fixture
def wav(tmp_path):
    """Write samples to a file; gives its path as it is typed."""

    def write(name, samples, rate=RATE, subtype=None):
        soundfile.write(tmp_path / name, samples, rate, subtype=subtype)
        return str(tmp_path / name)

    return write


def resampled(word, rate):
    """A tone at another rate, by its formula."""
    time_s = np.arange(round(0.5 * rate)) / rate
    return 0.3 * np.sin(2 * np.pi * TONES_HZ[word] * time_s).astype(np.float32)


def recognize_json(capsys, *arguments):
    code = main(["recognize", *arguments, "--json"])
    printed = capsys.readouterr()
    return code, json.loads(printed.out), printed.err


def test_each_file_has_its_word_with_probabilities(model, wav, capsys):
    files = [wav(f"{word}.wav", tone(word, 100)) for word in TONES_HZ]
    code, told, _ = recognize_json(capsys, model, *files)
    assert code == 0
    assert [answer["file"] for answer in told] == files
    assert [answer["word"] for answer in told] == list(TONES_HZ)
    for answer in told:
        assert answer["top"][0] == [answer["word"], answer["score"]]
        scores = [score for _, score in answer["top"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=1e-5)


def test_top_says_how_many(model, wav, capsys):
    file = wav("low.wav", tone("low", 100))
    assert len(recognize_json(capsys, model, file, "--top", "1")[1][0]["top"]) == 1
    assert len(recognize_json(capsys, model, file, "--top", "99")[1][0]["top"]) == 3
    assert main(["recognize", model, file, "--top", "0"]) == 2


@pytest.mark.parametrize("word", list(TONES_HZ))
@pytest.mark.parametrize(
    ("rate", "channels", "subtype"),
    [
        (16_000, 1, "PCM_24"),
        (16_000, 2, "PCM_16"),
        (16_000, 1, "FLOAT"),
        (16_000, 1, "PCM_U8"),
        (8_000, 1, "PCM_16"),
        (96_000, 2, "PCM_24"),
    ],
)
def test_every_kind_of_file_is_the_same_word(model, wav, capsys, word, rate, channels, subtype):
    samples = np.tile(resampled(word, rate)[:, np.newaxis], channels)
    _, told, _ = recognize_json(capsys, model, wav("clip.wav", samples, rate, subtype))
    assert told[0]["word"] == word


def test_floats_beyond_full_scale_are_clipped_not_refused(model, wav, capsys):
    loud = 8 * tone("mid", 1)
    beyond = wav("beyond.wav", loud, subtype="FLOAT")
    clipped = wav("clipped.wav", np.clip(loud, -1, 1), subtype="FLOAT")
    code, told, _ = recognize_json(capsys, model, beyond, clipped)
    assert code == 0
    assert told[0]["top"] == told[1]["top"]


def test_of_a_long_recording_the_loudest_stretch_is_scored_and_that_is_said(model, wav, capsys):
    samples = np.random.default_rng(0).normal(0, 1e-3, 600 * RATE).astype(np.float32)
    samples[401 * RATE : 401 * RATE + RATE // 2] += tone("high", 100)
    file = wav("long.flac", samples)
    code, told, said = recognize_json(capsys, model, file)
    assert (code, told[0]["word"]) == (0, "high")
    assert f"{file}: 600.00 s long; only its loudest 0.50 s, from 401.0" in said.replace("\n", "")


def test_one_sample_is_a_recording(model, wav, capsys):
    assert recognize_json(capsys, model, wav("one.wav", np.ones(1, np.float32)))[0] == 0


def test_bad_files_are_told_and_the_others_recognized(model, wav, tmp_path, capsys):
    nan = tone("low", 1)
    nan[77] = np.nan
    good = wav("good.wav", tone("low", 100))
    bad = {
        wav("zero.wav", np.zeros(0, np.float32)): "0 samples",
        wav("nan.wav", nan, subtype="FLOAT"): "sample 77 is nan",
        str(tmp_path / "missing.wav"): "No such file",
        str(tmp_path): "is a directory; an audio file is needed",
    }
    for name, content, sentence in (
        ("empty.wav", b"", "empty file (0 bytes)"),
        ("text.wav", b"no audio at all\n" * 20, "not a readable audio file"),
        ("cut.wav", (tmp_path / "good.wav").read_bytes()[:9_000], "truncated"),
    ):
        (tmp_path / name).write_bytes(content)
        bad[str(tmp_path / name)] = sentence
    again = wav("again.wav", tone("high", 100))
    code = main(["recognize", model, good, *bad, again])
    printed = capsys.readouterr()
    assert code == 4
    lines = printed.out.splitlines()
    assert [line.split()[:2] for line in lines] == [[good, "low"], [again, "high"]]
    errors = printed.err.splitlines()
    assert len(errors) == len(bad)
    for error, (file, sentence) in zip(errors, bad.items(), strict=True):
        assert error.startswith(f"error: {file}: ")
        assert sentence in error


def test_json_has_an_error_for_each_file_that_failed(model, wav, tmp_path, capsys):
    good = wav("good.wav", tone("low", 100))
    code, told, said = recognize_json(capsys, model, str(tmp_path / "missing.wav"), good)
    assert code == 4
    failed, recognized = told
    assert failed.keys() == {"file", "error"}
    assert failed["file"] == str(tmp_path / "missing.wav")
    assert "No such file" in failed["error"]
    assert (recognized["file"], recognized["word"]) == (good, "low")
    assert "missing.wav" in said


def test_names_are_printed_as_they_are(model, wav, capsys):
    file = wav("[bold]a[red] :smile: file.wav", tone("low", 100))
    assert main(["recognize", model, file]) == 0
    assert capsys.readouterr().out.startswith(f"{file}  low ")


def test_a_model_and_a_file_are_needed(model, capsys):
    assert main(["recognize"]) == 2
    assert main(["recognize", model]) == 2
    assert main(["recognize", "missing.safetensors", "clip.wav"]) == 4
    assert "missing.safetensors" in capsys.readouterr().err
