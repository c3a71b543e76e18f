"""A training that a page started is a process of its own, which ends with the server."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from speechgru.serve.own_words.places import Places
from speechgru.serve.own_words.trainer import Trainer


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
