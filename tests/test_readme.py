"""What the README shows is run."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch

from speechgru.cli import main
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.safetensors import save_model
from speechgru.training.recipe_files import recipe_names

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[str]:
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    last = [re.split(r"&&|\|", line)[-1].strip() for line in lines]
    return [command for command in last if command.startswith("speechgru ")]


def test_the_readme_shows_commands():
    assert len(commands()) >= 8
    assert any(command.startswith("speechgru demo") for command in commands())


@pytest.mark.parametrize("command", commands())
def test_each_command_is_one_that_exists(command, capsys):
    words = shlex.split(command, comments=True)
    assert words[0] == "speechgru"
    # The options are parsed before --help is answered: one that does not exist exits 2.
    assert main([*words[1:], "--help"]) == 0
    assert "Usage" in capsys.readouterr().out


def test_the_python_lines_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "demo").mkdir(parents=True)
    model = SpeechGRU(ModelConfig(hidden=8, layers=1), FeatureConfig(), ("left", "right"))
    save_model(model, Path("runs/demo/model.safetensors"))
    tone = np.sin(np.arange(16_000) * 0.2).astype(np.float32) * 0.1
    _, code = blocks("python")
    samples = torch.from_numpy(tone)[None]
    names: dict[str, object] = {"batch": samples, "next_batch": samples}
    exec(compile(code, "README.md", "exec"), names)
    whole, _ = model.eval()(torch.cat([samples, samples], dim=1))
    chunks = torch.cat([names["log_posteriors"], names["more"]], dim=1)
    assert torch.allclose(whole, chunks, atol=1e-4)


def test_each_recipe_has_its_section():
    text = (PROJECT / "recipes" / "README.md").read_text(encoding="utf-8")
    for name in recipe_names():
        assert f"## {name}" in text
