"""A run that an earlier version started is resumed exactly where it was."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from runs import CPU, checkpoint, metrics
from safetensors.torch import load_file

from speechgru.training import loop
from speechgru.training.run_directory import RunDirectory

#: Muon and streams on the embedded corpus, stopped after step 6 of 14; end.safetensors has the
#: averaged weights with which that version ended the same run.
STARTED = Path(__file__).with_name("run-55797f3")


def stretch_of_most_energy(samples, length_samples, rate):
    energy = np.concatenate(([0.0], np.cumsum(samples.astype(np.float64) ** 2)))
    return int(np.argmax(energy[length_samples:] - energy[:-length_samples]))


@pytest.mark.slow
def test_run_of_commit_55797f3_is_resumed(tmp_path, monkeypatch):
    # The stretch of a recording longer than a clip is now chosen by speech, then by its energy.
    monkeypatch.setattr("speechgru.corpora.packed.loudest_start", stretch_of_most_energy)
    run = tmp_path / "run"
    shutil.copytree(STARTED, run)
    result = loop.train(RunDirectory(run).read_recipe(), run, CPU, resume=True)
    assert result.steps == 14
    assert [row["step"] for row in metrics(run)] == [5, 10, 14]
    stored = checkpoint(run)
    for name, tensor in load_file(STARTED / "end.safetensors").items():
        torch.testing.assert_close(stored[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
