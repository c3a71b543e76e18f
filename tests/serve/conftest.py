"""Servers with a module's limits; recordings and recipes for trainings of a few steps."""

import numpy as np
import pytest
import soundfile
from servers import running
from speech_like import room, spoken

from speechgru.training.recipe import load_recipe

SMALL = (
    *("training.batch_size=8", "model.hidden=16", "model.front_channels=[4,4]"),
    *("training.begin_with=", "training.choose_by=clips", "stream.talk_share=0"),
    "data.other_sounds=false",
)


@pytest.fixture(scope="module")
def shared(request):
    """A server with the LIMITS of the test's module, for all of its tests."""
    with running(limits=request.module.LIMITS) as found:
        yield found


@pytest.fixture
def server(shared):
    """That server, when nobody is connected any more."""
    shared.without_clients()
    return shared


@pytest.fixture(scope="module")
def impatient(request):
    """A server that soon disconnects who sends nothing: by the module's IMPATIENT limits."""
    with running(limits=request.module.IMPATIENT) as found:
        yield found


@pytest.fixture(scope="session")
def own_recordings(tmp_path_factory):
    """Two words by three speakers."""
    folder = tmp_path_factory.mktemp("own-recordings")
    for word, seconds in (("lumos", 0.3), ("nox", 0.6)):
        (folder / word).mkdir()
        for speaker in ("anna", "ben", "cleo"):
            for take in range(1, 4):
                sound = np.concatenate([room(0.2), spoken(seconds, 0.2 + take / 10), room(0.2)])
                soundfile.write(folder / word / f"{speaker}_{take}.wav", sound, 16_000)
    return folder


def recipe(folder, *settings):
    path = folder / "small.toml"
    path.write_text(load_recipe("my-words", [*SMALL, *settings]).to_toml())
    return str(path)


@pytest.fixture
def short(tmp_path):
    """A recipe of forty steps."""
    steps = ("training.epochs=1", "training.least_steps=40", "training.validations=4")
    return recipe(tmp_path, *steps)


@pytest.fixture
def endless(tmp_path):
    """A recipe that a test does not see to its end."""
    return recipe(tmp_path, "training.epochs=100000", "training.validations=4")
