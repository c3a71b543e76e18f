"""What has to run on Windows does, where the modules of Unix cannot be imported."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from runs import write_recipe

#: Run in a process of its own: a module that is None in sys.modules cannot be imported. Folders
#: cannot be opened there either, and there is no lock that a file could not be deleted under.
COMMANDS = """
import json, os, sys, warnings
import psutil  # on Windows it needs none of these modules; elsewhere it does
for name in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[name] = None
del os.O_DIRECTORY, os.set_blocking
warnings.filterwarnings("ignore", "only soft file lock")  # of filelock, on a Unix without fcntl
from speechgru.cli import main
for command in json.loads(sys.argv[1]):
    if code := main(command):
        sys.exit(f"{command}: exit code {code}")
"""


def run(*commands: list[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", COMMANDS, json.dumps(commands)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_commands_run_without_unix_modules(tones: Path, tmp_path: Path) -> None:
    trained, exported = str(tmp_path / "run" / "model.safetensors"), str(tmp_path / "m.onnx")
    recording = str(tones.parent / "low-g.wav")
    recipe = write_recipe(tmp_path, tones, epochs=1, validations=1)
    shown = run(
        ["train", recipe, "--out", str(tmp_path / "run"), "--device", "cpu"],
        ["train", "--resume", str(tmp_path / "run"), "--device", "cpu"],
        ["evaluate", trained, "--data", str(tones), "--protocol", "folder"],
        ["export", trained, "-o", exported, "--data", str(tones)],
        ["info", exported],
        ["recognize", exported, recording],
        ["listen", exported, "--input", recording, "--record", str(tmp_path / "heard.wav")],
        ["verify", exported, recording],
        ["data", "check", "embedded"],
    )
    assert "low-g.wav" in shown
    assert (tmp_path / "heard.wav").stat().st_size > 8_000
