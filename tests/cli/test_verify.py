"""`speechgru verify`: equal where it should be, and found out where it is not."""

import json

import numpy as np
import pytest
import soundfile
import torch
from tones import RATE, tone, untrained_model

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.verification import Difference, chunkings, verify


@pytest.fixture
def model_file(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(untrained_model(front="conv"), path)
    return path


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "high.wav"
    soundfile.write(path, tone("high", 0, 1.5), RATE)
    return path


def run(capsys, *arguments):
    code = main(["verify", *map(str, arguments)])
    return code, capsys.readouterr()


def test_sound_model_passes_on_every_file(model_file, recording, tmp_path, capsys):
    other = tmp_path / "low.wav"
    soundfile.write(other, tone("low", 0, 1.5), RATE)
    code, told = run(capsys, model_file, recording, other, "--json")
    assert code == 0
    found = json.loads(told.out)
    assert found["passed"] is True
    assert [row["chunking"] for row in found["differences"]] == 2 * [
        "1 sample",
        "20 ms",
        "random",
        "whole",
    ]
    assert {row["steps"] for row in found["differences"]} == {75}
    assert all(row["log_posteriors"] <= 1e-4 for row in found["differences"])


def test_table(model_file, recording, capsys):
    code, told = run(capsys, model_file, recording)
    assert code == 0
    assert "live equals offline in all 4 comparisons" in told.out
    assert str(recording) in told.out


def test_model_that_magnifies_rounding_exits_5(recording, tmp_path, capsys):
    """Features divided by a millionth: so is what a chunk rounds in another way."""
    model = SpeechGRU(ModelConfig(hidden=8), FeatureConfig(), ("a", "b")).eval()
    model.deviation.fill_(1e-6)
    save_model(model, tmp_path / "m.safetensors")
    code, told = run(capsys, tmp_path / "m.safetensors", recording, "--json")
    assert code == 5
    assert json.loads(told.out)["passed"] is False
    assert "comparisons differ by more than 1e-05 (features) or 0.0001" in told.err


@pytest.mark.parametrize(
    ("log_posteriors", "posteriors", "passed"),
    [
        (5e-5, None, True),
        (2e-4, None, False),  # of the same form of the model
        (2e-4, 3e-5, True),  # of an improbable label of another form
        (2e-3, 3e-5, False),
        (2e-4, 2e-4, False),
    ],
)
def test_improbable_labels_of_another_form_may_differ_more(log_posteriors, posteriors, passed):
    """Float32 itself is 1e-4 from float64 in those of a sharp CTC head."""
    assert Difference("whole", 100, None, log_posteriors, posteriors).passed == passed


def test_dependence_on_the_whole_recording_is_detected(recording):
    """Features less their mean over what is heard at once: right for a clip, wrong in a stream."""

    class Centred(SpeechGRU):
        def extract(self, samples, context):
            features, kept = super().extract(samples, context)
            return features - features.mean(dim=1, keepdim=True), kept

    torch.manual_seed(0)
    model = Centred(ModelConfig(hidden=8), FeatureConfig(), ("a", "b")).eval()
    samples, _ = soundfile.read(recording, dtype="float32")
    passed = {
        difference.chunking: difference.passed
        for difference in verify(TorchBackend(model), samples)
    }
    assert passed == {"1 sample": False, "20 ms": False, "random": False, "whole": True}


def test_chunkings_cover_the_recording():
    sizes = chunkings(50_000, 320, RATE, seed=1)
    assert {name: sum(chunks) for name, chunks in sizes.items()} == {
        "1 sample": 50_000,
        "20 ms": 49_920,
        "random": 50_000,
        "whole": 50_000,
    }
    assert min(sizes["random"]) >= 1
    assert sizes["random"] != chunkings(50_000, 320, RATE, seed=2)["random"]
    assert len(chunkings(10_000_000, 320, RATE, seed=0)["1 sample"]) == 20 * RATE


@pytest.mark.parametrize(
    ("name", "samples", "message"),
    [
        ("short.wav", np.zeros(200), "short.wav: 200 samples"),
        ("nan.wav", np.full(1_000, np.nan), "finite"),
        ("none.wav", None, "none.wav"),
    ],
)
def test_unusable_recordings_exit_4(model_file, tmp_path, capsys, name, samples, message):
    if samples is not None:
        soundfile.write(tmp_path / name, samples, RATE, subtype="FLOAT")
    code, told = run(capsys, model_file, tmp_path / name)
    assert code == 4
    assert message in told.err
