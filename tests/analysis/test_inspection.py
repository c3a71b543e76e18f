"""Inspection of a model: gates, posteriors, gradients against finite differences, `inspect`."""

import json

import numpy as np
import pytest
import soundfile
import torch
from matplotlib import image
from tones import RATE, TONES_HZ, tone, trained_model, untrained_model

from speechgru.analysis.inspection import (
    GradientNorms,
    gradient_norms,
    relative_norms,
    trace,
    untrained,
)
from speechgru.cli import main
from speechgru.errors import DataError
from speechgru.labels import SILENCE
from speechgru.model.cells import CELL_NAMES
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import save_model

LOGMEL = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections")


def make(**options) -> SpeechGRU:
    torch.manual_seed(0)
    model = SpeechGRU(ModelConfig(**{"hidden": 12} | options), LOGMEL, (SILENCE, *TONES_HZ))
    model.set_normalisation(model.features(torch.from_numpy(tone("mid", 0))[None]))
    return model.eval()


@pytest.mark.parametrize("cell", CELL_NAMES)
def test_trace_equals_the_models_own_output(cell):
    model, samples = make(cell=cell, context_steps=5), tone("low", 0)
    found = trace(model, samples)
    with torch.no_grad():
        answer = model(torch.from_numpy(samples)[None])[0][0].exp().numpy()
    np.testing.assert_allclose(found.posteriors["classify"], answer, atol=1e-6)
    assert found.log_mel_db.shape == (2 * found.steps, 20)
    assert found.duration_s == pytest.approx(0.5)
    assert len(found.layers) == 2
    for gates in found.layers:
        assert gates
        for name, values in gates.items():
            assert values.shape == (found.steps, 24 if cell == "lstmp" else values.shape[1])
            assert values.min() >= (-1 if name == "state" else 0)
            assert values.max() <= 1
    with torch.no_grad():
        first = model.cells[0].trace(
            model.norms[0](model.project(model.front(*extracted(model, samples))[0])),
            model.initial_state()["layer0"],
        )
    for name, values in first.gates.items():
        np.testing.assert_allclose(found.layers[0][name], values[0].numpy(), atol=1e-5)


def extracted(model, samples):
    state = model.initial_state()
    return model.extract(torch.from_numpy(samples)[None], state["samples"])[0], state


def test_spectrogram_peaks_at_the_tone():
    found = trace(untrained_model(), tone("high", 3))
    edges = 700 * (
        10 ** (np.linspace(*(2595 * np.log10(1 + np.array([20, 7600]) / 700)), 22) / 2595) - 1
    )
    band = found.log_mel_db[10:].mean(axis=0).argmax()
    assert edges[band] < TONES_HZ["high"] * 1.1
    assert edges[band + 2] > TONES_HZ["high"] * 0.9


def test_peak_is_the_most_probable_word():
    found = trace(trained_model(), tone("high", 99))
    word, step = found.peak
    column = found.labels["classify"].index("high")
    assert word == "high"
    assert found.posteriors["classify"][step, column] == found.posteriors["classify"].max()
    silent = make()
    with torch.no_grad():
        silent.head.bias[0] = 50.0
    assert trace(silent, tone("low", 0)).peak[0] != SILENCE
    with pytest.raises(DataError, match="no word"):
        _ = trace(SpeechGRU(ModelConfig(hidden=4), LOGMEL, (SILENCE,)).eval(), tone("low", 0)).peak


@pytest.mark.parametrize("cell", ["rnn", "lstm", "gru", "mingru", "transformer"])
@pytest.mark.parametrize("front", ["stack", "conv"])
def test_gradients_equal_finite_differences(cell, front):
    """With wide steps, as the log-posteriors are float32."""
    model = make(cell=cell, hidden=3, context_steps=4, front=front, front_channels=(2, 2)).double()
    samples, step, column = tone("mid", 1, 0.2).astype(np.float64), 8, 2
    norms = gradient_norms(model, samples, column, step)
    assert [len(of_layer) for of_layer in norms] == [9, 9]
    features, state = extracted(model, samples)
    features = features[:, : 2 * (step + 1)]

    def answer(t: int, layer: int, index: int, change: float) -> float:
        _, before = model.encode(features[:, : 2 * t], state) if t else (None, dict(state))
        moved = before[f"layer{layer}"].clone()
        moved.view(-1)[index] += change
        encoded, _ = model.encode(features[:, 2 * t :], before | {f"layer{layer}": moved})
        return model.fold(model.apply_heads(encoded))[0, -1, column].item()

    with torch.no_grad():
        for back in (0, 2, 8):
            for layer in (0, 1):
                size = state[f"layer{layer}"].numel()
                gradient = [
                    (answer(step - back, layer, i, 5e-3) - answer(step - back, layer, i, -5e-3))
                    / 1e-2
                    for i in range(size)
                ]
                expected = np.linalg.norm(gradient)
                assert norms[layer][back] == pytest.approx(expected, rel=0.02, abs=5e-5)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_keep_bias_lets_gradients_reach_further_back():
    samples = tone("mid", 2)
    reach = {}
    for keep_bias in (0.0, 3.0):
        model = make(cell="gru", layers=1, residual=False, hidden=24, keep_bias=keep_bias)
        (curve,) = relative_norms(model, samples, 1, 24, "gru")
        assert curve.norms[0] == 1
        reach[keep_bias] = curve.norms[20]
    assert reach[3.0] > 10 * reach[0.0]


def test_untrained_cell_keeps_the_models_front():
    model = make(cell="lstm", front="conv", front_channels=(4, 4), keep_bias=1.0)
    rnn = untrained(model, "rnn")
    assert (rnn.config.cell, len(rnn.cells), rnn.config.hidden) == ("rnn", 1, 12)
    torch.testing.assert_close(rnn.project.weight, model.project.weight)
    torch.testing.assert_close(rnn.mean, model.mean)
    again = untrained(model, "rnn")
    torch.testing.assert_close(rnn.cells[0].rnn.weight_ih_l0, again.cells[0].rnn.weight_ih_l0)


def test_half_steps_is_where_the_norm_stays_below_half():
    for norms, half in (([1, 0.6, 0.4, 0.5, 0.1], 4), ([1, 0.2], 1), ([1, 0.9], 2), ([0, 0], 0)):
        assert GradientNorms("", np.array(norms, float)).half_steps == half


@pytest.fixture
def files(tmp_path):
    save_model(trained_model(), tmp_path / "model.safetensors")
    soundfile.write(tmp_path / "high.wav", tone("high", 99), RATE)
    return tmp_path


def run(capsys, *arguments):
    code = main(["inspect", *map(str, arguments)])
    return code, capsys.readouterr()


def test_inspect_json_and_pictures(files, capsys):
    other = make(cell="rnn")
    (files / "other").mkdir()
    save_model(other, files / "other" / "model.safetensors")
    code, printed = run(
        *(capsys, files / "model.safetensors", files / "high.wav", "-o", files / "out"),
        *("--beside", files / "other" / "model.safetensors", "--json"),
    )
    assert code == 0
    found = json.loads(printed.out)
    assert (found["word"], found["steps"]) == ("high", 25)
    assert found["score"] > 0.5
    assert 0 < found["time_s"] <= 0.5
    assert {(row["layer"], row["gate"]) for row in found["gates"]} == {
        (layer, gate) for layer in (0, 1) for gate in ("update", "reset")
    }
    assert [row["name"] for row in found["gradients"]] == [
        *("gru, layer 1", "gru, layer 2", "other, layer 1", "other, layer 2"),
        *("rnn, untrained", "lstm, untrained", "gru, untrained"),
    ]
    assert found["pictures"].keys() == {"gates", "posteriors", "gradient"}
    for name, path in found["pictures"].items():
        assert path == str(files / "out" / f"{name}.png")
        drawn = image.imread(path)
        assert min(drawn.shape[:2]) > 300
        assert drawn[..., :3].std() > 0.05


def test_inspect_as_text(files, capsys):
    code, printed = run(
        capsys, files / "model.safetensors", files / "high.wav", "-o", files, "--start", "0.1"
    )
    assert code == 0
    assert "highest posterior: 'high' at 0." in printed.out
    assert "layer 2 reset: mean 0." in printed.out
    assert "gru, untrained: the gradient falls below a half" in printed.out
    assert "gradient.png" in printed.out
    assert "likely" not in printed.err


def test_a_bundled_model_has_its_name_and_a_short_reach_is_not_made_up(files, capsys):
    """Near its beginning a recording is too short for the gradient to fall far."""
    silent = files / "silent.wav"
    soundfile.write(silent, np.zeros(480, np.float32), 16000)
    out = ("-o", files / "out")
    code, printed = run(capsys, "commands-12", silent, *out, "--beside", "commands-12-small")
    assert code == 0
    assert "commands-12-small, layer 2: the gradient is at least a half 0.00 s back" in printed.out
    assert "silent.wav: no word is likely in it" in printed.err
    code, printed = run(capsys, files / "model.safetensors", silent, *out, "--json")
    assert code == 0
    assert {row["half_s"] for row in json.loads(printed.out)["gradients"]} == {None}


def test_whole_clip_model_has_gates_but_no_gradient(files, capsys):
    save_model(make(bidirectional=True, cell="transformer"), files / "whole.safetensors")
    code, printed = run(
        capsys, files / "whole.safetensors", files / "high.wav", "-o", files / "out", "--json"
    )
    assert code == 0
    found = json.loads(printed.out)
    assert found["gradients"] == []
    assert {row["gate"] for row in found["gates"]} == {"attention", "backward attention"}
    assert "no gradient.png" in printed.err
    assert not (files / "out" / "gradient.png").exists()


def test_long_recording_is_cut_with_a_message(files, capsys, monkeypatch):
    monkeypatch.setattr("speechgru.cli.inspect.LONGEST_S", 2.0)
    soundfile.write(files / "long.wav", np.tile(tone("low", 0), 14), RATE)
    save_model(make(hidden=4), files / "small.safetensors")
    code, printed = run(
        capsys,
        files / "small.safetensors",
        files / "long.wav",
        "-o",
        files,
        "--start",
        "3",
        "--json",
    )
    assert code == 0
    assert "7.0 s long; 2 s from 3 s are drawn" in printed.err
    assert json.loads(printed.out)["steps"] == 100


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model.safetensors", "none.wav"], 4, "none.wav"),
        (["none.safetensors", "high.wav"], 4, "none.safetensors"),
        (["model.safetensors", "high.wav", "--start", "0.49"], 2, "--start 0.49"),
        (["model.safetensors", "high.wav", "--beside", "other.safetensors"], 4, "--beside"),
        (["model.safetensors", "high.wav", "-o", "high.wav"], 1, "high.wav"),
    ],
)
def test_inspect_errors(files, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(files)
    save_model(untrained_model(("yes", "no")), files / "other.safetensors")
    found, printed = run(capsys, *arguments)
    assert found == code
    assert message in printed.err
    assert not printed.out
