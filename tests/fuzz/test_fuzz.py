"""Hostile inputs of every kind: a sentence and the right exit code, in time and in little memory.

A small part runs always, and 1,500 inputs with the slow tests. `pytest -m fuzz` runs 100,000, or
$SPEECHGRU_FUZZ; `SPEECHGRU_FUZZ_ONLY=models:1234 pytest tests/fuzz` a single one. Where one ends
the whole process, the name of the folder in pytest's directory tells which one it was.
"""

import os
import random
import shutil
from pathlib import Path

import pytest
from fuzz_guard import Outcome, call
from fuzz_inputs import KINDS, SHARES, Seeds
from fuzz_server import Server
from runs import CPU, quick_recipe
from tone_listener import tone_listener, with_ctc_head
from tones import trained_model, write_tones

from speechgru.cli import main
from speechgru.export.exporter import export_model
from speechgru.modelfile.safetensors import save_model
from speechgru.training.loop import train

ONLY = "SPEECHGRU_FUZZ_ONLY"
#: In every run, of each kind.
FEW = 6
#: Of all kinds together, as `SHARES` divides them.
MORE, ALL = 1_500, int(os.environ.get("SPEECHGRU_FUZZ", "100000"))


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    folder = tmp_path_factory.mktemp("seeds")
    save_model(trained_model(), folder / "model.safetensors")
    save_model(with_ctc_head(tone_listener()), folder / "ctc.safetensors")
    export_model(trained_model(), folder / "model.onnx")
    (folder / "tones").mkdir()
    manifest = write_tones(folder / "tones")
    recipe = quick_recipe(manifest, epochs=1, validations=1)
    train(recipe, folder / "run", CPU)
    assert main(["data", "pack", str(manifest), "--cache", str(folder / "packed")]) == 0
    server = Server()
    yield Seeds(
        folder,
        folder / "model.safetensors",
        folder / "ctc.safetensors",
        folder / "model.onnx",
        folder / "run",
        manifest,
        server,
    )
    server.close()


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch):
    """A broken download is tried again without a pause."""
    monkeypatch.setattr("speechgru.corpora.transfer.time.sleep", lambda seconds: None)


def tried(kind: str, number: int, seeds: Seeds, folder: Path) -> tuple[Outcome, list[str]]:
    """What an input gives, and what is wrong with that."""
    place = folder / f"{kind}-{number}"
    place.mkdir(parents=True)
    known = {path.name for path in folder.iterdir()}
    case = KINDS[kind](random.Random(f"{kind}-{number}"), seeds, place)
    outcome = call(case.arguments, case.stdin)
    faults = outcome.faults(case.codes)
    if strays := [path.name for path in folder.iterdir() if path.name not in known]:
        faults.append(f"files elsewhere: {strays}")
    shutil.rmtree(place)
    return outcome, faults


def numbers_of(kind: str, count: int) -> range:
    """This kind's share of so many inputs."""
    return range(FEW, FEW + round(count * SHARES[kind] / sum(SHARES.values())))


def faults_of(kind: str, numbers: range, seeds: Seeds, folder: Path) -> list[str]:
    found = []
    for number in numbers:
        outcome, faults = tried(kind, number, seeds, folder)
        if faults:
            found.append(f"{ONLY}={kind}:{number}: {', '.join(faults)}\n{outcome}")
        if len(found) >= 10:
            break
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_hostile_inputs(kind, seeds, tmp_path):
    if only := os.environ.get(ONLY):
        name, _, number = only.partition(":")
        if name != kind:
            pytest.skip("another kind is asked for")
        outcome, faults = tried(kind, int(number), seeds, tmp_path)
        print(outcome)
        assert not faults
        return
    found = faults_of(kind, range(FEW), seeds, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_hostile_inputs(kind, seeds, tmp_path):
    found = faults_of(kind, numbers_of(kind, MORE), seeds, tmp_path)
    assert not found, "\n".join(found)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_all_hostile_inputs(kind, seeds, tmp_path):
    found = faults_of(kind, numbers_of(kind, ALL), seeds, tmp_path)
    assert not found, "\n".join(found)
