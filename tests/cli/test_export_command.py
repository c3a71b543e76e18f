"""`speechgru export`: what it writes and tells, and that nothing is lost where it fails."""

import json
from pathlib import Path

import numpy as np
import pytest
from tones import trained_model, untrained_model

from speechgru.cli import main
from speechgru.export import exporter as exporting
from speechgru.export.weights import to_int8
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import save_model


@pytest.fixture(scope="module")
def trained(quick_run) -> Path:
    """A network of the recipes' kind that tells the tones apart."""
    return quick_run / "model.safetensors"


@pytest.mark.parametrize("weights", ["float32", "int8"])
def test_export_writes_a_model_with_the_same_header(trained, tones, tmp_path, capsys, weights):
    target = tmp_path / "m.onnx"
    eight = ["--int8"] if weights == "int8" else []
    options = ["--data", str(tones), *eight]
    assert main(["export", str(trained), "-o", str(target), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["weights"] == weights
    assert told["size_bytes"] <= target.stat().st_size
    assert told["largest_difference"] <= 1e-4
    assert {row["chunking"] for row in told["differences"]} == {"20 ms", "random", "whole"}
    accuracy = told["accuracy"]
    assert (accuracy["split"], accuracy["n"]) == ("validation", 6)
    assert accuracy["exported"] >= accuracy["pytorch"] - 0.003

    assert main(["info", str(trained), "--json"]) == 0
    header = json.loads(capsys.readouterr().out)
    assert main(["info", str(target), "--json"]) == 0
    exported_header = json.loads(capsys.readouterr().out)
    for key in ("labels", "outputs", "unknown_words", "metadata", "features", "model", "protocol"):
        if key == "metadata":  # each setting is written, what was a default too
            assert exported_header[key].items() >= header[key].items()
            assert exported_header[key]["decoder"]["threshold"] == 0.5
        else:
            assert exported_header[key] == header[key], key
    for key in ("parameters", "sample_rate", "step_ms", "format_version"):
        if key == "metadata":  # each setting is written, what was a default too
            assert exported_header[key].items() >= header[key].items()
            assert exported_header[key]["decoder"]["threshold"] == 0.5
        else:
            assert exported_header[key] == header[key], key
    assert exported_header["graph"]["checked"]["accuracy"] == accuracy
    assert main(["info", str(target)]) == 0
    assert f"weights {weights}" in " ".join(capsys.readouterr().out.split())


def test_export_prints_sizes_and_accuracies(trained, tones, tmp_path, capsys):
    target = str(tmp_path / "m.onnx")
    assert main(["export", str(trained), "-o", target, "--data", str(tones)]) == 0
    told = capsys.readouterr().out
    assert "weights float32" in told
    assert "6 clips (folder, validation)" in told


def test_export_that_loses_accuracy_is_refused(trained, tones, tmp_path, capsys, monkeypatch):
    """Eight bits as coarse as one: what the network knew is gone."""

    def coarse(weights):
        numbers, scales = to_int8(weights)
        return (np.sign(numbers) * 127).astype(np.int8), scales

    for module in ("weights", "graph_builder"):
        monkeypatch.setattr(f"speechgru.export.{module}.to_int8", coarse)
        monkeypatch.setattr(f"speechgru.export.{module}.is_rounded", lambda shape: len(shape) >= 2)
    # Weights so large magnify what the last digits are.
    monkeypatch.setattr("speechgru.recognition.verification.LOG_POSTERIOR_TOLERANCE", 0.1)
    target = tmp_path / "m.onnx"
    options = ["--int8", "--data", str(tones), "--split", "testing"]
    assert main(["export", str(trained), "-o", str(target), *options]) == 5
    assert "0.3 points may be lost; nothing was written" in capsys.readouterr().err
    assert not target.exists()


def test_failed_export_leaves_the_old_file(tmp_path, capsys, monkeypatch):
    model, target = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    save_model(trained_model(), model)
    assert main(["export", str(model), "-o", str(target)]) == 0
    before = target.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert main(["export", str(model), "-o", str(target)]) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["m.safetensors", "-o", "m.bin"], 2, "use a name that ends in .onnx"),
        (["m.safetensors"], 2, "--output"),
        (["m.onnx", "-o", "n.onnx"], 2, "is exported already"),
        (["m.onnx", "--web", "page", "--int8"], 2, "is exported already"),
        (["m.onnx", "--web", "page", "--data", "nowhere"], 2, "is exported already"),
        (["none.safetensors", "-o", "n.onnx"], 4, "no such file"),
        (["m.safetensors", "-o", "n.onnx", "--split", "testing"], 2, "need --data DIR too"),
        (["m.safetensors", "-o", "n.onnx", "--data", "nowhere"], 4, "nowhere"),
        (["whole.safetensors", "-o", "n.onnx"], 2, "needs whole clips"),
        (["m.safetensors", "-o", "m.safetensors/n.onnx"], 1, "cannot be written"),
    ],
)
def test_invalid_options_are_one_sentence(tmp_path, capsys, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    save_model(untrained_model(protocol="folder"), Path("m.safetensors"))
    features = FeatureConfig(kind="logmel", mels=20, fft_samples=512)
    whole = SpeechGRU(ModelConfig(hidden=8, bidirectional=True), features, ("a", "b"))
    save_model(whole, Path("whole.safetensors"))
    exporting.export_model(untrained_model(), Path("m.onnx"))
    capsys.readouterr()
    assert main(["export", *arguments]) == code
    printed = capsys.readouterr()
    assert sentence in printed.err.replace("\n", "")
    assert printed.out == ""
    assert not Path("n.onnx").exists()
