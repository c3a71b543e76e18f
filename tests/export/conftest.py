"""A stream of real speech for exported models, and a page for a browser."""

import numpy as np
import pytest

from speechgru.corpora.split_audio import open_split_audio
from speechgru.corpora.streams import StreamPlan, make_stream
from speechgru.export.web.runtime import RUNTIME_FILES
from speechgru.export.web.site import write_site
from speechgru.modelfile.bundled import MODEL, find_model
from speechgru.modelfile.safetensors import load_model


@pytest.fixture(scope="session")
def real_stream(gsc_open):
    """20 minutes of testing clips in background noise, 16 bits."""
    audio = open_split_audio(gsc_open, "commands-12", "testing", 16_000)
    samples = make_stream(audio, StreamPlan(minutes=20.0)).samples
    assert samples.dtype == np.int16
    return samples


@pytest.fixture(scope="session")
def small_commands():
    """The bundled `commands-12-small`."""
    return load_model(find_model("commands-12-small", trained=True))


@pytest.fixture
def empty_runtime(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_text("")
    return folder


@pytest.fixture
def module(tmp_path, empty_runtime):
    folder = tmp_path / "site"
    write_site(MODEL, folder, empty_runtime)
    return folder
