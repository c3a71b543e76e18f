"""Trained model files: restored to the bit; damaged and hostile ones are refused."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from speechgru.cli import main
from speechgru.errors import DataError, SpeechGRUError
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import load_model, read_header, save_model

METADATA = {"protocol": "folder", "clip_s": 0.5, "metrics": {"accuracy": 0.9}, "note": "größer, 大"}


@pytest.fixture(params=["stack", "conv"])
def model(request) -> SpeechGRU:
    torch.manual_seed(0)
    model = SpeechGRU(
        ModelConfig(front=request.param, front_channels=(4, 6), hidden=8),
        FeatureConfig(mels=20, cepstra=13, fft_samples=512),
        (SILENCE, UNKNOWN, "ja", "nein"),
        ("halt",),
        METADATA,
    )
    model.set_normalisation(torch.randn(100, 13))
    return model.eval()


@pytest.fixture
def path(tmp_path: Path, model: SpeechGRU) -> Path:
    save_model(model, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_saved_model_is_restored_to_the_bit(path, model):
    again = load_model(path)
    assert again.labels == model.labels
    assert again.unknown_words == model.unknown_words
    assert again.config == model.config
    assert again.features.config == model.features.config
    assert again.metadata == METADATA
    assert not again.training
    samples = 0.1 * torch.randn(2, 4_000)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name
    assert torch.equal(again(samples)[0], model(samples)[0])


def test_saving_a_loaded_model_gives_the_same_file(path, tmp_path):
    save_model(load_model(path), tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_what_follows_from_the_settings_is_not_stored(path):
    assert not [name for name in load_file(path) if name.startswith("features.")]


def test_a_trained_model_is_saved_with_its_statistics(path, model):
    """In training mode, with gradients, and with weights that are views."""
    model.train()(torch.randn(2, 4_000))[0].sum().backward()
    save_model(model, path)
    assert not load_model(path).training


def test_a_failed_save_leaves_the_old_file(path, model):
    before = path.read_bytes()
    model.metadata = {"a set": {1, 2}}
    with pytest.raises(TypeError):
        save_model(model, path)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]  # noqa: PTH208


def test_an_unwritable_place_is_named(path, model):
    with pytest.raises(
        SpeechGRUError, match=r"b: cannot be written: .*model\.safetensors is not a dir"
    ):
        save_model(model, path / "b")


def rewritten(path: Path, change_header=lambda header: None, change_tensors=lambda tensors: None):
    """The model's file with another header or other tensors."""
    header, tensors = read_header(path), load_file(path)
    change_header(header)
    change_tensors(tensors)
    save_file(tensors, path, {"speechgru": json.dumps(header)})
    return path


def refused(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The message of `load_model` and the command line about a file, which both must refuse."""
    with pytest.raises(DataError) as caught:
        load_model(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert main(["info", str(path)]) == 4
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message.replace(" ", "") in printed.err.replace("\n", "").replace(" ", "")
    return message.removeprefix(f"{path}: ")


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.05, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_refused(path, capsys, share):
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert "not a complete safetensors file" in refused(path, capsys)


@pytest.mark.parametrize("position", [0, 3, 9, 40])
def test_a_damaged_header_is_refused(path, capsys, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 0xFF
    path.write_bytes(content)
    assert refused(path, capsys)


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"{}", b"\x80\x04\x95pickle", b"x" * 5_000])
def test_other_files_are_refused(tmp_path, capsys, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert "not a complete safetensors file" in refused(path, capsys)


@pytest.mark.parametrize(
    ("name", "sentence"), [("go.WAV", "is a recording; a model"), ("m.onnx", "an exported model")]
)
def test_a_recording_or_an_export_in_place_of_a_model_is_named(tmp_path, name, sentence):
    (tmp_path / name).write_bytes(b"RIFF" * 20)
    with pytest.raises(DataError, match=sentence):
        load_model(tmp_path / name)


def test_a_trained_model_is_one_by_any_name(path):
    renamed = path.rename(path.with_suffix(".onnx"))
    assert list(load_model(renamed).labels) == read_header(renamed)["labels"]


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"speechgru": "[1, 2]"}])
def test_safetensors_files_of_other_programs_are_refused(tmp_path, capsys, metadata):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, path, metadata)
    assert refused(path, capsys) == "a safetensors file, but not a speechgru model"


def test_a_header_that_is_not_json_is_refused(path, capsys):
    save_file(load_file(path), path, {"speechgru": "{'labels': "})
    assert refused(path, capsys)


def test_a_newer_format_says_what_to_do(path, capsys):
    rewritten(path, lambda header: header.update(format_version=2))
    assert refused(path, capsys) == (
        "model format 2 is newer than this speechgru reads (1); install a newer speechgru"
    )


def lists(depth: int) -> list:
    return [lists(depth - 1)] if depth else []


HEADER_CHANGES = {
    "no labels": lambda header: header.pop("labels"),
    "labels are a number": lambda header: header.update(labels=3),
    "labels are numbers": lambda header: header.update(labels=[1, 2, 3, 4]),
    "words are one string": lambda header: header.update(unknown_words="h"),
    "a label twice": lambda header: header.update(labels=["ja", "ja", UNKNOWN, SILENCE]),
    "no metadata": lambda header: header.pop("metadata"),
    "metadata is a list": lambda header: header.update(metadata=[1]),
    "unknown words without a label": lambda header: header.update(labels=["a", "b", "c", "d"]),
    "an unknown setting": lambda header: header["model"].update(colour="red"),
    "a setting out of range": lambda header: header["model"].update(layers=0),
    "settings are a list": lambda header: header.update(model=[]),
    "features out of range": lambda header: header["features"].update(high_hz=1e6),
    "another size": lambda header: header["model"].update(hidden=9),
    "one layer more": lambda header: header["model"].update(layers=3),
    "one label more": lambda header: header["labels"].append("doch"),
    "a huge network": lambda header: header["model"].update(layers=16, hidden=4096, cell="lstmp"),
    "a huge front": lambda header: header["model"].update(
        front="conv", front_channels=[10**5, 10**6, 4]
    ),
    "100,000 labels": lambda header: header.update(labels=[*map(str, range(10**5)), UNKNOWN]),
    "a number of 5,000 digits": lambda header: header["model"].update(hidden=10**4_200),
    "lists in lists": lambda header: header["metadata"].update(note=lists(100)),
    "format is a word": lambda header: header.update(format_version="one"),
    "format 0": lambda header: header.update(format_version=0),
}


@pytest.mark.parametrize("change", HEADER_CHANGES.values(), ids=HEADER_CHANGES.keys())
def test_an_inconsistent_header_is_refused(path, capsys, change):
    assert len(refused(rewritten(path, change), capsys)) < 300


TENSOR_CHANGES = {
    "missing": lambda tensors: tensors.pop("head.bias"),
    "surplus": lambda tensors: tensors.update(extra=torch.zeros(1)),
    "half precision": lambda t: t.update({"head.bias": t["head.bias"].half()}),
    "eight bits": lambda t: t.update({"head.bias": t["head.bias"].to(torch.float8_e4m3fn)}),
    "wrong shape": lambda tensors: tensors.update({"head.bias": torch.zeros(9)}),
}


@pytest.mark.parametrize("change", TENSOR_CHANGES.values(), ids=TENSOR_CHANGES.keys())
def test_weights_that_do_not_fit_are_refused(path, capsys, change):
    rewritten(path, change_tensors=change)
    assert "the weights do not fit the configuration" in refused(path, capsys)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight_that_is_not_finite_is_refused(path, capsys, value):
    rewritten(path, change_tensors=lambda tensors: tensors["project.weight"].fill_(value))
    assert refused(path, capsys) == "a weight is not finite; the file is damaged"


def test_a_missing_file_and_a_directory_are_named(tmp_path, capsys):
    assert "no such file" in refused(tmp_path / "nothing.safetensors", capsys)
    assert "is a directory" in refused(tmp_path, capsys)


def test_a_run_directory_is_its_best_model(path, model):
    (path.parent / "recipe.toml").touch()
    found = load_model(path.parent)
    assert found.labels == model.labels
    path.unlink()
    with pytest.raises(DataError, match="the run has no model yet"):
        load_model(path.parent)


def test_the_header_is_read_without_the_weights(path):
    header = read_header(path)
    assert header["labels"] == [SILENCE, UNKNOWN, "ja", "nein"]
    assert header["format_version"] == 1
    assert header["metadata"] == METADATA
    with safe_open(path, framework="pt") as file:
        assert list(file.metadata()) == ["speechgru"]
