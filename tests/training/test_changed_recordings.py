"""A run is resumed with the recordings that it was started with, or not at all."""

import shutil
from pathlib import Path

import pytest
from runs import CPU, change_progress, interrupt, quick_recipe
from tones import write_tones

from speechgru.cli import main
from speechgru.errors import DataError
from speechgru.training import loop

pytestmark = pytest.mark.usefixtures("few_sounds")


def test_added_recording_prevents_resuming(tmp_path, capsys):
    manifest = write_tones(tmp_path)
    run = tmp_path / "run"
    interrupt(quick_recipe(manifest), run, 2)
    recording = next(tmp_path.glob("low-*.wav"))
    shutil.copy(recording, tmp_path / "low-a2.wav")
    manifest.write_text(manifest.read_text() + "low-a2.wav,low,a,training\n")
    before = (run / "last" / "checkpoint.safetensors").read_bytes()
    assert main(["train", "--resume", str(run)]) == 4
    assert "the recordings have changed since this run began" in " ".join(
        capsys.readouterr().err.split()
    )
    assert (run / "last" / "checkpoint.safetensors").read_bytes() == before


def interrupted(folder):
    """A recipe for tones in a folder, and a run that stopped after two steps."""
    run, recipe = folder / "run", quick_recipe(write_tones(folder))
    interrupt(recipe, run, 2)
    return recipe, run


def test_recording_replaced_by_one_of_the_same_size_prevents_resuming(tmp_path):
    recipe, run = interrupted(tmp_path)
    shutil.copyfile(tmp_path / "high-a.wav", tmp_path / "low-a.wav")
    with pytest.raises(DataError, match="the recordings have changed since this run began"):
        loop.train(recipe, run, CPU, resume=True)


def test_added_word_is_reported_as_changed_recordings(tmp_path):
    """And not as a checkpoint of another network, which it is, too."""
    recipe, run = interrupted(tmp_path)
    manifest = Path(recipe.data.directory)
    text = manifest.read_text().replace("high-d.wav,high,d", "high-d.wav,shrill,d")
    manifest.write_text(text.replace("high-e.wav,high,e", "high-e.wav,shrill,e"))
    with pytest.raises(DataError, match="the recordings have changed since this run began"):
        loop.train(recipe, run, CPU, resume=True)


def test_copied_recordings_do_not_prevent_resuming(tmp_path):
    """The same content with other times of change, as after a restored backup."""
    recipe, run = interrupted(tmp_path)
    for path in tmp_path.glob("*.wav"):
        path.write_bytes(path.read_bytes())
    assert loop.train(recipe, run, CPU, resume=True).steps == 30


def test_recordings_decoded_by_other_versions_are_mentioned(tones, tmp_path):
    """Their samples may differ in a bit, which does not mean that the recordings have changed."""
    run, lines = tmp_path / "run", list[str]()
    recipe = quick_recipe(tones)
    interrupt(recipe, run, 2)
    change_progress(run, samples_crc32=1, decoders="libsndfile 1.0, soxr 0.1")
    loop.train(recipe, run, CPU, resume=True, say=lines.append)
    assert "were by libsndfile 1.0, soxr 0.1" in lines[0]
