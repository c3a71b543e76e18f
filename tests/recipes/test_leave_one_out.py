"""The script that leaves each speaker out: its manifests, and a run on tones."""

import json
from collections import defaultdict

import numpy as np
import pytest
import soundfile
from runs import write_recipe
from scripts import load_script
from tones import write_tones

from speechgru.audio.files import read
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus


@pytest.fixture(scope="module")
def script():
    return load_script("leave_one_out")


@pytest.fixture
def tones(tmp_path, monkeypatch):
    monkeypatch.setenv("SPEECHGRU_CACHE", str(tmp_path / "cache"))
    (tmp_path / "tones").mkdir()
    return write_tones(tmp_path / "tones")


def test_left_out_speaker_is_only_in_testing(script, tones, tmp_path):
    corpus = open_corpus(str(tones))
    (tmp_path / "runs").mkdir()
    manifest = tmp_path / "runs" / "without-e.csv"
    manifest.write_text(script.manifest_without("e", corpus, None, manifest.parent))
    again = open_corpus(str(manifest))
    assert {clip.path.resolve() for clip in again.clips} == {clip.path for clip in corpus.clips}
    splits = defaultdict(set)
    for clip in again.clips:
        splits[clip.split].add(clip.speaker)
    assert splits["testing"] == {"e"}
    assert "e" not in splits["training"] | splits["validation"]
    assert len(splits["training"]) == 11
    assert len(again.split("validation")) < 0.3 * len(again.split("training"))


def test_other_people_are_only_in_training(script, tones, tmp_path):
    corpus = open_corpus(str(tones))
    manifest = tmp_path / "without-e.csv"
    manifest.write_text(script.manifest_without("e", corpus, None, tmp_path))
    alone = open_corpus(str(manifest))
    others = script.matching_clips(corpus, open_corpus(embedded_corpus()), tmp_path / "also")
    assert not others.clips  # it has none of the words
    (tmp_path / "more").mkdir()
    more = open_corpus(str(write_tones(tmp_path / "more")))
    helping = script.matching_clips(corpus, more, tmp_path / "also")
    assert helping.clips == more.split("training")
    assert not (tmp_path / "also").exists()
    manifest.write_text(script.manifest_without("e", corpus, helping, tmp_path))
    helped = open_corpus(str(manifest))
    for split in ("validation", "testing"):
        assert helped.split(split) == alone.split(split)
    assert {"also a", "also b"} < {clip.speaker for clip in helped.split("training")}
    assert len(helped.clips) == len(alone.clips) + len(more.split("training"))


def test_higher_rates_are_resampled_to_the_corpus_rate(script, tones, tmp_path):
    corpus, low = open_corpus(str(tones)), tmp_path / "low"
    low.mkdir()
    for clip in corpus.clips:
        soundfile.write(low / clip.path.name, read(clip.path, 8_000), 8_000)
    (low / tones.name).write_text(tones.read_text())
    helping = script.matching_clips(open_corpus(str(low / tones.name)), corpus, tmp_path / "also")
    own = corpus.split("training")
    assert [(clip.word, clip.speaker) for clip in helping.clips] == [
        (clip.word, clip.speaker) for clip in own
    ]
    for clip, original in zip(helping.clips, own, strict=True):
        samples, rate = soundfile.read(clip.path)
        assert rate == 8_000
        np.testing.assert_allclose(samples, read(original.path, 8_000), atol=2**-15)
    written = {clip.path: clip.path.stat().st_mtime_ns for clip in helping.clips}
    assert len(written) == len(own)
    again = script.matching_clips(open_corpus(str(low / tones.name)), corpus, tmp_path / "also")
    assert {clip.path: clip.path.stat().st_mtime_ns for clip in again.clips} == written


@pytest.mark.slow
def test_leave_one_out_run(script, tones, tmp_path, capsys):
    recipe = write_recipe(tmp_path, tones, epochs=20, validations=2)
    arguments = [recipe, "--data", str(tones), "--out", str(tmp_path / "runs")]
    arguments += ["--speakers", "a,e", "--set", 'model.heads=["ctc"]', "--device", "cpu"]
    assert script.main(arguments) == 0
    printed = capsys.readouterr().out
    assert [line.split("|")[1].strip() for line in printed.splitlines()[2:4]] == ["a", "e"]
    assert "mean of 2: " in printed
    figures = json.loads((tmp_path / "runs" / "without-e.json").read_text())
    assert figures["sequences"]["words"] == 3
    assert set(figures["sequences"]["by_speaker"]) == {"e"}
    assert "beam" in figures["sequences"]["decoder"]
    # A second time nothing is trained, and the same is told.
    model = tmp_path / "runs" / "without-a" / "model.safetensors"
    before = model.stat().st_mtime_ns
    assert script.main(arguments) == 0
    assert capsys.readouterr().out == printed
    assert model.stat().st_mtime_ns == before


def test_unknown_speaker_is_an_error(script, tones, tmp_path, capsys):
    arguments = ["my-words", "--data", str(tones), "--out", str(tmp_path / "runs")]
    assert script.main([*arguments, "--speakers", "zoe"]) == 2
    assert "--speakers zoe: must be among a, b, c" in capsys.readouterr().err
