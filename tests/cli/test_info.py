"""`speechgru info`, and every command's answer to a file that is no model."""

import json
import struct

import pytest
from safetensors import safe_open
from safetensors.torch import save_file
from tones import untrained_model

from speechgru.backends.pytorch import TorchBackend
from speechgru.cli import main
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.clips import clip_samples

METADATA = {
    "protocol": "folder",
    "clip_s": 0.5,
    "tail_s": 0.2,
    "metrics": {"validation": {"accuracy": 0.9375, "n": 320}},
    "provenance": {"commit": "0123456789ab", "recipe": {"training": {"epochs": 3}}},
}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(untrained_model(("_silence_", "yes", "no"), **METADATA), path)
    return path


def edited(path, edit):
    """The model with another header; `edit` takes and gives the decoded header."""
    with safe_open(path, "pt") as file:
        header = json.loads(file.metadata()["speechgru"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, {"speechgru": json.dumps(edit(header))})


def test_json_has_the_whole_header(path, capsys):
    assert main(["info", str(path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    model = untrained_model(("_silence_", "yes", "no"))
    assert told["labels"] == ["_silence_", "yes", "no"]
    assert told["metadata"] == METADATA
    assert told["protocol"] == "folder"
    assert told["parameters"] == sum(p.numel() for p in model.parameters())
    assert told["size_bytes"] == path.stat().st_size
    assert (told["step_ms"], told["sample_rate"]) == (20.0, 16_000)
    assert told["features"] == model.features.config.model_dump()
    assert told["model"]["hidden"] == 24
    assert told["format_version"] == 1


def test_each_run_before_has_one_row(tmp_path, capsys):
    first = {"commit": "aaa", "recipe": {"training": {"epochs": 80.0}}, "data": {"name": "open"}}
    second = {"commit": "bbb", "recipe": {"training": {"epochs": 5.0}}, "begun_with": first}
    path = tmp_path / "model.safetensors"
    save_model(untrained_model(provenance={"commit": "ccc", "begun_with": second}), path)
    assert main(["info", str(path)]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [row.split(None, 2)[2].strip() for row in rows if row.startswith("began with")] == [
        "data none, epochs 5, commit bbb",
        "data open, epochs 80, commit aaa",
    ]
    assert not any("begun" in row for row in rows)


def test_table_fits_80_columns(path, capsys):
    assert main(["info", str(path)]) == 0
    printed = capsys.readouterr().out
    words = " ".join(printed.split())
    for told in (
        "labels _silence_ yes no",
        "step 20 ms, of samples at 16,000 Hz",
        "protocol folder",
        "clip 0.5 s",
        "metrics validation accuracy 0.9375, n 320",
        "commit 0123456789ab",
        "provenance recipe training epochs 3",
        "kind logmel",
    ):
        assert told in words
    assert all(len(line) <= 80 for line in printed.splitlines())


def test_model_without_metadata(path, capsys):
    save_model(untrained_model(), path)
    assert main(["info", str(path)]) == 0
    assert "protocol none" in " ".join(capsys.readouterr().out.split())
    assert clip_samples(TorchBackend(untrained_model())) == 16_000


def no_file(path):
    path.unlink()


def a_directory(path):
    path.unlink()
    path.mkdir()


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("I am no model, but I am long enough to hold a header's length.")


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def endless_header(path):
    path.write_bytes(struct.pack("<Q", 2**62) + b"{}")


def another_program(path):
    save_file(dict(untrained_model().head.state_dict()), path)


def newer(path):
    edited(path, lambda header: header | {"format_version": 99})


def other_labels(path):
    labels = ["yes", "no"]
    edited(path, lambda header: header | {"labels": labels, "outputs": {"classify": labels}})


def no_labels(path):
    edited(path, lambda header: {k: v for k, v in header.items() if k != "labels"})


def unknown_key(path):
    edited(path, lambda header: header | {"model": header["model"] | {"wings": 2}})


@pytest.mark.parametrize("command", ["info", "recognize", "evaluate"])
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_file, "no such file"),
        (a_directory, "is a directory without a model; a run directory or a model"),
        (empty, "not a complete safetensors file"),
        (text, "not a complete safetensors file"),
        (half, "not a complete safetensors file"),
        (endless_header, "not a complete safetensors file"),
        (another_program, "not a speechgru model"),
        (newer, "model format 99 is newer"),
        (other_labels, "weights do not fit"),
        (no_labels, "inconsistent"),
        (unknown_key, "inconsistent"),
    ],
)
def test_invalid_model_files_exit_4(path, capsys, command, spoil, sentence):
    spoil(path)
    more = {"info": [], "recognize": ["clip.wav"], "evaluate": ["--data", "."]}[command]
    assert main([command, str(path), *more]) == 4
    printed = capsys.readouterr()
    said = printed.err.replace("\n", "")
    assert said.startswith(f"error: {path}: ")
    assert sentence in said
    assert printed.out == ""
