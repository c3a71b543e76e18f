"""`speechgru recognize`, as it is typed, on good files and bad ones."""

import json

import numpy as np
import pytest
import soundfile
from tones import RATE, TONES_HZ, tone

from speechgru.cli import main
from speechgru.recognition import clips


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


def test_each_file_gets_a_word_with_probabilities(clip_model, wav, capsys):
    files = [wav(f"{word}.wav", tone(word, 100)) for word in TONES_HZ]
    code, told, _ = recognize_json(capsys, clip_model, *files)
    assert code == 0
    assert [answer["file"] for answer in told] == files
    assert [answer["word"] for answer in told] == list(TONES_HZ)
    for answer in told:
        assert answer["top"][0] == [answer["word"], answer["score"]]
        scores = [score for _, score in answer["top"]]
        assert scores == sorted(scores, reverse=True)
        assert sum(scores) == pytest.approx(1.0, abs=1e-5)


def test_top_limits_the_labels(clip_model, wav, capsys):
    file = wav("low.wav", tone("low", 100))
    assert len(recognize_json(capsys, clip_model, file, "--top", "1")[1][0]["top"]) == 1
    assert len(recognize_json(capsys, clip_model, file, "--top", "99")[1][0]["top"]) == 3
    assert main(["recognize", clip_model, file, "--top", "0"]) == 2


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
def test_rates_channels_and_subtypes_give_the_same_word(
    clip_model, wav, capsys, word, rate, channels, subtype
):
    samples = np.tile(resampled(word, rate)[:, np.newaxis], channels)
    _, told, _ = recognize_json(capsys, clip_model, wav("clip.wav", samples, rate, subtype))
    assert told[0]["word"] == word


def test_floats_beyond_full_scale_are_clipped(clip_model, wav, capsys):
    loud = 8 * tone("mid", 1)
    beyond = wav("beyond.wav", loud, subtype="FLOAT")
    clipped = wav("clipped.wav", np.clip(loud, -1, 1), subtype="FLOAT")
    code, told, _ = recognize_json(capsys, clip_model, beyond, clipped)
    assert code == 0
    assert told[0]["top"] == told[1]["top"]


def test_long_recording_is_scored_where_it_is_loudest_and_says_so(clip_model, wav, capsys):
    samples = np.random.default_rng(0).normal(0, 1e-3, 600 * RATE).astype(np.float32)
    samples[401 * RATE : 401 * RATE + RATE // 2] += tone("high", 100)
    file = wav("long.flac", samples)
    code, told, said = recognize_json(capsys, clip_model, file)
    assert (code, told[0]["word"]) == (0, "high")
    assert f"{file}: 600.00 s long; only 0.50 s of it, from 400.9" in said.replace("\n", "")


def test_recording_of_one_sample(clip_model, wav, capsys):
    assert recognize_json(capsys, clip_model, wav("one.wav", np.ones(1, np.float32)))[0] == 0


def test_bad_files_are_reported_and_others_recognized(clip_model, wav, tmp_path, capsys):
    nan = tone("low", 1)
    nan[77] = np.nan
    good = wav("good.wav", tone("low", 100))
    bad = {
        wav("zero.wav", np.zeros(0, np.float32)): "0 samples",
        wav("nan.wav", nan, subtype="FLOAT"): "sample 77 is nan",
        str(tmp_path / "missing.wav"): "No such file",
        str(tmp_path): "is a directory; an audio file is needed",
        str(tmp_path / ("x" * 300)): "File name too long",
    }
    for name, content, sentence in (
        ("empty.wav", b"", "empty file (0 bytes)"),
        ("text.wav", b"no audio at all\n" * 20, "not a readable audio file"),
        ("cut.wav", (tmp_path / "good.wav").read_bytes()[:9_000], "truncated"),
    ):
        (tmp_path / name).write_bytes(content)
        bad[str(tmp_path / name)] = sentence
    again = wav("again.wav", tone("high", 100))
    code = main(["recognize", clip_model, good, *bad, again])
    printed = capsys.readouterr()
    assert code == 4
    lines = printed.out.splitlines()
    assert [line.split()[:2] for line in lines] == [[good, "low"], [again, "high"]]
    errors = printed.err.splitlines()
    assert len(errors) == len(bad)
    for error, (file, sentence) in zip(errors, bad.items(), strict=True):
        assert error.startswith(f"error: {file}: " if len(file) < 200 else "error: ")
        assert sentence in error


def test_a_first_name_that_is_too_long_is_no_model(clip_model, wav, capsys):
    assert main(["recognize", "x" * 300, wav("good.wav", tone("low", 100))]) == 4
    printed = capsys.readouterr()
    assert "File name too long" in printed.err
    assert "good.wav" in printed.out


def test_json_has_an_error_for_each_file_that_failed(clip_model, wav, tmp_path, capsys):
    good = wav("good.wav", tone("low", 100))
    code, told, said = recognize_json(capsys, clip_model, str(tmp_path / "missing.wav"), good)
    assert code == 4
    failed, recognized = told
    assert failed.keys() == {"file", "error"}
    assert failed["file"] == str(tmp_path / "missing.wav")
    assert "No such file" in failed["error"]
    assert (recognized["file"], recognized["word"]) == (good, "low")
    assert "missing.wav" in said


def test_an_interruption_keeps_what_was_recognized(clip_model, wav, capsys, monkeypatch):
    files = [wav(f"{number}.wav", tone("low", number)) for number in range(3)]
    recognize = clips.recognize

    def recognize_two(backend, file, *more):
        if str(file) == files[2]:
            raise KeyboardInterrupt
        return recognize(backend, file, *more)

    monkeypatch.setattr(clips, "recognize", recognize_two)
    code, told, said = recognize_json(capsys, clip_model, *files)
    assert code == 130
    assert [row["file"] for row in told] == files[:2]
    assert "interrupted" in said


def test_markup_in_file_names_is_printed_as_text(clip_model, wav, capsys):
    file = wav("[bold]a[red] :smile: file.wav", tone("low", 100))
    assert main(["recognize", clip_model, file]) == 0
    assert capsys.readouterr().out.startswith(f"{file}  low ")


def test_model_without_recordings_is_refused(clip_model, capsys):
    assert main(["recognize"]) == 2
    assert main(["recognize", clip_model]) == 2
    assert main(["recognize", "missing.safetensors", "clip.wav"]) == 4
    assert "missing.safetensors" in capsys.readouterr().err


def test_channels_that_cancel_each_other_are_reported(clip_model, wav, capsys):
    samples = tone("low", 0)
    file = wav("phases.wav", np.stack([samples, -0.9 * samples], axis=1))
    assert main(["recognize", str(clip_model), file]) == 0
    assert (
        "is 26 dB quieter than channel 1 alone; --channel 1 uses that one"
        in capsys.readouterr().err
    )
    assert main(["recognize", str(clip_model), file, "--channel", "1"]) == 0
    assert "quieter" not in capsys.readouterr().err


def test_a_directory_is_neither_a_model_nor_a_recording(clip_model, tmp_path, capsys):
    assert main(["recognize", str(tmp_path)]) == 4
    assert "is a directory; recordings FILE... are needed" in capsys.readouterr().err
    assert main(["recognize", str(tmp_path), "a.wav"]) == 4
    assert "is a directory without a model" in capsys.readouterr().err
