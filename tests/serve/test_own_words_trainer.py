"""A training that a page started is a process of its own, which ends with the server."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors import safe_open
from safetensors.numpy import save_file

from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.trainer import Trainer
from speechgru.training.run_progress import CHECKPOINT, KEY

STOPPED = Path(__file__).parents[1] / "training" / "run-55797f3"


def wait_for(trainer, *states, timeout_s=120):
    end = time.monotonic() + timeout_s
    while trainer.status()["state"] not in states:
        assert time.monotonic() < end, trainer.status()
        time.sleep(0.1)
    return trainer.status()


@pytest.mark.slow
def test_a_training_that_fails_says_why_and_another_may_start(tmp_path):
    trainer = Trainer(Places(tmp_path / "none", runs=tmp_path / "runs"))
    trainer.start()
    with pytest.raises(Exception, match="one at a time"):
        trainer.start()
    status = wait_for(trainer, "failed")
    assert str(tmp_path / "none") in status["lines"][-1]
    trainer.start()
    trainer.close()
    assert trainer.status()["state"] == "stopped"


@pytest.mark.slow
def test_the_model_of_an_earlier_run_stays_at_hand(tmp_path):
    trainer = Trainer(Places(tmp_path / "none", runs=tmp_path / "runs"))
    trainer.start()
    run = Path(wait_for(trainer, "failed")["run"])
    run.mkdir(parents=True, exist_ok=True)
    (run / "model.safetensors").touch()  # as if it had gone well
    for _ in range(2):
        trainer.start()
        wait_for(trainer, "failed")
        assert trainer.model == run / "model.safetensors"


SERVE = """
import sys, time
from pathlib import Path
from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.trainer import Trainer
data, runs, recipe = sys.argv[1:]
trainer = Trainer(Places(Path(data), None, Path(runs), recipe))
trainer.start()
while not trainer.status()["step"]:
    time.sleep(0.05)
print(trainer._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.slow
def test_a_training_does_not_outlive_a_server_that_is_killed(tmp_path, own_recordings, endless):
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(own_recordings), str(tmp_path / "runs"), endless],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.send_signal(signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            break
        time.sleep(0.1)
    else:
        raise AssertionError("the training goes on")
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "last" / "checkpoint.safetensors").exists()  # it saved itself
    again = Trainer(Places(own_recordings, None, tmp_path / "runs", endless))
    assert (again.state, again.status()["run"]) == ("stopped", str(run))
    again.resume()
    wait_for(again, "running")
    again.close()
    assert again.state == "stopped"


@pytest.mark.parametrize("finished", [True, False])
def test_the_last_run_of_an_earlier_server_is_known(tmp_path, finished):
    """With its model, though later runs have no checkpoint yet, or are not this page's."""
    runs = tmp_path / "runs"
    for name in ("my-words", "my-words-2", "my-words-old", "others"):
        shutil.copytree(STOPPED, runs / name)
        os.utime(runs / name / CHECKPOINT, (len(name), len(name)))
    (runs / "my-words-3").mkdir()
    damaged = runs / "my-words-4" / CHECKPOINT
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"{}")
    last = runs / "my-words-2"
    if finished:
        finish(last / CHECKPOINT)
        (last / "model.safetensors").touch()
    trainer = Trainer(Places(tmp_path / "data", runs=runs))
    status = trainer.status()
    assert status["run"] == str(last)
    assert status["state"] == ("done" if finished else "stopped")
    assert trainer.model == (last / "model.safetensors" if finished else None)
    assert Trainer(Places(tmp_path / "data", runs=runs, recipe="mine.toml")).state == "idle"


def finish(checkpoint):
    """As if its run had come to its end."""
    modified = checkpoint.stat().st_mtime
    with safe_open(checkpoint, framework="np") as file:
        header = json.loads(file.metadata()[KEY])
    header["progress"]["finished"] = True
    save_file({}, checkpoint, {KEY: json.dumps(header)})
    os.utime(checkpoint, (modified, modified))
