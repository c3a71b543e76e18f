"""The script that averages the weights of models."""

import pytest
import torch
from scripts import load_script
from tones import untrained_model

from speechgru.modelfile.safetensors import load_model, save_model


@pytest.fixture(scope="module")
def script():
    return load_script("average_weights")


@pytest.fixture
def two(tmp_path):
    """Two files of models that differ in one weight, one of them with an origin."""
    model = untrained_model()
    model.metadata |= {"provenance": {"commit": "abc"}, "metrics": {"step": 3}}
    save_model(model, tmp_path / "a.safetensors")
    with torch.no_grad():
        model.head.bias[0] += 2.0
    model.metadata |= {"provenance": {"commit": "def"}}
    save_model(model, tmp_path / "b.safetensors")
    return [str(tmp_path / "a.safetensors"), str(tmp_path / "b.safetensors")]


def test_the_mean_lies_between(script, two, tmp_path, capsys):
    out = tmp_path / "mean.safetensors"
    assert script.main([*two, "--out", str(out)]) == 0
    assert "mean of 2 models" in capsys.readouterr().out
    first, second, mean = (load_model(path).state_dict() for path in (*two, out))
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)
    assert mean["head.bias"][0] == pytest.approx(first["head.bias"][0].item() + 1.0)
    metadata = load_model(out).metadata
    assert metadata["provenance"] == {"commit": "abc", "averaged_with": [{"commit": "def"}]}
    assert "metrics" not in metadata


def test_one_model_or_another_network_is_refused(script, two, tmp_path, capsys):
    out = str(tmp_path / "mean.safetensors")
    assert script.main([two[0], "--out", out]) == 2
    other = tmp_path / "other.safetensors"
    save_model(untrained_model(front="conv"), other)
    assert script.main([two[0], str(other), "--out", out]) == 2
    assert script.main([*two, str(tmp_path / "none.safetensors"), "--out", out]) == 4
    said = capsys.readouterr().err
    assert "name two or more" in said
    assert f"{other}: has another network than" in said
    assert "no such file" in said
    assert not (tmp_path / "mean.safetensors").exists()
