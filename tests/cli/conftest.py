"""Models and recordings that several commands are tested with; nobody writes to them."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
from listener import listening_model
from tone_listener import exported_listener, stream, tone_listener
from tones import RATE, trained_model

from speechgru.modelfile.safetensors import save_model

#: The words of `tone_stream.file`.
STREAM_WORDS = ["low", "high", "mid", "mid", "low"]


@pytest.fixture(scope="session")
def clip_model(tmp_path_factory) -> str:
    """The file of a network that tells single tones apart."""
    path = tmp_path_factory.mktemp("clip-model") / "tones.safetensors"
    save_model(trained_model(), path)
    return str(path)


@pytest.fixture(scope="session")
def stream_model(tmp_path_factory) -> Path:
    """The file of a network that finds tones in a noisy stream."""
    path = tmp_path_factory.mktemp("stream-model") / "model.safetensors"
    save_model(listening_model(), path)
    return path


@pytest.fixture(scope="session")
def tone_stream(tmp_path_factory) -> SimpleNamespace:
    """A model, trained and exported; recordings of `STREAM_WORDS`, with their times, and of two."""
    folder = tmp_path_factory.mktemp("listen")
    save_model(tone_listener(), folder / "tones.safetensors")
    samples, spans = stream(STREAM_WORDS, seed=900)
    soundfile.write(folder / "tones.wav", samples, RATE)
    few, _ = stream(STREAM_WORDS[:2], gap_s=0.3, seed=901)
    soundfile.write(folder / "few.wav", few, RATE)
    return SimpleNamespace(
        model=str(folder / "tones.safetensors"),
        exported=str(exported_listener()),
        file=str(folder / "tones.wav"),
        spans=spans,
        few=str(folder / "few.wav"),
    )
