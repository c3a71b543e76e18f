"""Exported models where torch and other packages for training are not installed."""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import soundfile
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from tone_listener import stream, tone_listener
from tones import RATE, tone, write_tones

from speechgru.backends.pytorch import TorchBackend
from speechgru.export.exporter import export_model
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.recognizer import open_recognizer

PROJECT = Path(__file__).resolve().parents[2]

#: Packages that a small machine does not have.
ABSENT = ("torch", "torchaudio", "librosa", "onnx", "safetensors", "matplotlib", "tomli_w")

WITHOUT = f"""
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
#: Runs a command for each line with its words, and answers with its exit code and what it printed.
COMMANDS = (
    WITHOUT
    + """
import io, json
from contextlib import redirect_stderr, redirect_stdout
from speechgru.cli import main

for line in sys.stdin:
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    with redirect_stdout(out), redirect_stderr(err):
        code = main(json.loads(line))
    texts = [printed.buffer.getvalue().decode() for printed in (out, err)]
    print(json.dumps([code, *texts]), flush=True)
"""
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A model in both forms, a recording with words, and a corpus."""
    folder = tmp_path_factory.mktemp("small")
    model = copy.deepcopy(tone_listener())
    model.metadata |= {"protocol": "folder"}
    save_model(model, folder / "m.safetensors")
    export_model(model, folder / "m.onnx")
    samples, _ = stream(["low", "high", "mid"])
    soundfile.write(folder / "words.wav", samples, RATE, subtype="FLOAT")
    soundfile.write(folder / "high.wav", tone("high", 7), RATE)
    (folder / "tones").mkdir()
    write_tones(folder / "tones")
    return folder


@pytest.fixture(scope="module")
def run(folder) -> Iterator[Callable[..., tuple[str, str]]]:
    """Runs commands in the folder, all in one process: what starts it takes longest."""
    with subprocess.Popen(
        [sys.executable, "-c", COMMANDS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={"PATH": "", "PYTHONPATH": str(PROJECT), "SPEECHGRU_CACHE": str(folder / "cache")},
    ) as process:

        def run(*arguments: str, code: int = 0) -> tuple[str, str]:
            process.stdin.write(json.dumps(arguments) + "\n")
            process.stdin.flush()
            found, stdout, stderr = json.loads(process.stdout.readline())
            assert found == code, stderr
            assert "Traceback" not in stderr
            return stdout, stderr

        yield run
        process.stdin.close()


def test_torch_and_librosa_are_absent(folder):
    code = f"""{WITHOUT}
from importlib import import_module
for package in {ABSENT}:
    try:
        import_module(package)
    except ModuleNotFoundError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"No module named {package!r}" for package in ABSENT]


def test_recognize(run):
    printed, _ = run("recognize", "m.onnx", "high.wav", "--json")
    assert json.loads(printed)[0]["word"] == "high"


def test_listen_gives_the_events_of_pytorch(run, folder):
    printed, _ = run("listen", "m.onnx", "--input", "words.wav", "--jsonl")
    events = [json.loads(line) for line in printed.splitlines()]
    samples, _ = soundfile.read(folder / "words.wav", dtype="float32")
    with_torch = open_recognizer(TorchBackend(tone_listener())).push(samples)
    assert [event["word"] for event in events] == ["low", "high", "mid"]
    for event, other in zip(events, with_torch, strict=True):
        assert (event["word"], event["t"]) == (other.word, pytest.approx(other.t, abs=1e-3))
        assert event["score"] == pytest.approx(other.score, abs=1e-3)


def test_nothing_is_written_into_the_home_directory_nor_reported(folder, tmp_path):
    """onnxruntime numbers the machine in a file there, and sends reports, unless told not to."""
    program = (
        "import os, speechgru, onnxruntime\n"
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'\n"
        "speechgru.load('m.onnx')"
    )
    environment = {"PATH": "", "PYTHONPATH": str(PROJECT), "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def test_verify(run):
    printed, _ = run("verify", "m.onnx", "words.wav", "--json")
    found = json.loads(printed)
    assert found["passed"] is True
    assert len(found["differences"]) == 4


def test_info(run):
    printed, _ = run("info", "m.onnx", "--json")
    assert json.loads(printed)["graph"]["weights"] == "float32"


@pytest.mark.slow
def test_evaluate_clips_and_a_stream(run):
    data = ["--data", "tones/tones.csv", "--split", "testing"]
    printed, _ = run("evaluate", "m.onnx", *data, "--carry-state", "--streaming", "--json")
    found = json.loads(printed)
    assert found["n"] == 18
    assert found["accuracy"] > 0.9
    assert found["carried_accuracy"] > 0.5
    assert found["matched"] > 0


@pytest.mark.slow
def test_bench(run):
    printed, _ = run("bench", "listen", "m.onnx", "--json")
    found = json.loads(printed)
    assert found["overhead_ratio"] > 1
    assert found["whole_speed"] > 1
    assert 0 < found["chunk_us"]["p50"] <= found["chunk_us"]["p95"] <= found["chunk_us"]["p99"]


def test_python(folder):
    code = f"""{WITHOUT}
import soundfile, speechgru
samples, _ = soundfile.read("words.wav", dtype="float32")
recognizer = speechgru.load("m.onnx")
print([event.word for event in recognizer.push(samples) + recognizer.flush()])
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": str(PROJECT)},
    )
    assert done.stdout.strip() == "['low', 'high', 'mid']", done.stderr


@pytest.mark.parametrize(
    ("arguments", "missing"),
    [
        (["train", "quickstart"], "torch"),
        (["demo"], "torch"),
        (["export", "m.safetensors", "-o", "n.onnx"], "torch"),
        (["evaluate", "m.onnx", "--data", "tones/tones.csv", "--picture", "a.png"], "matplotlib"),
    ],
)
def test_commands_that_need_more_say_so(run, arguments, missing):
    _, printed = run(*arguments, code=1)
    assert f"this needs the package {missing}, which is not installed" in printed


def test_a_trained_model_needs_torch(run):
    for command in (["listen", "m.safetensors", "--input", "words.wav"], ["info", "m.safetensors"]):
        _, printed = run(*command, code=1)
        sentence = "a trained model needs torch, which is not installed; an exported one (.onnx)"
        assert sentence in " ".join(printed.split())


def test_an_exported_model_refuses_a_gpu(run):
    options = ["--data", "tones/tones.csv", "--device", "cuda"]
    _, printed = run("evaluate", "m.onnx", *options, code=2)
    assert "it runs on the CPU" in printed


def test_the_state_is_reset_where_pytorch_resets_it(folder):
    """A second of silence between words: the policy's resets are the same."""
    import speechgru

    samples, _ = stream(["low", "high"], gap_s=1.5)
    quiet = np.zeros(2 * RATE, np.float32)
    for one in (speechgru.load(folder / name) for name in ("m.onnx", "m.safetensors")):
        one.push(np.concatenate([samples, quiet]))
        assert float(np.exp(one.log_posteriors[-1])) > 0.5  # silence


# The packages that the guide names for small machines, and no others.

GUIDE = (PROJECT / "recipes/guides/small-machines.md").read_text(encoding="utf-8")


def with_dependencies(names: list[str]) -> set[str]:
    """The packages and all that they need themselves on this machine, not counting extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                waiting.append(needed.name)
    return found


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> Path:
    """A folder with these packages alone, as `pip install` would have filled an empty one."""
    (line,) = re.findall(r"^pip install (numpy [a-z ]+?) *(?:#.*)?$", GUIDE, re.MULTILINE)
    packages = tmp_path_factory.mktemp("small") / "packages"
    packages.mkdir()
    for name in with_dependencies(line.split()):
        files = metadata.files(name) or []
        for top in {file.parts[0] for file in files if file.parts[0] not in ("..", "__pycache__")}:
            target = packages / top
            if not target.exists():
                target.symlink_to(metadata.distribution(name).locate_file(top))
    return packages


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [
        ["recognize", "m.onnx", "high.wav"],
        ["listen", "m.onnx", "--input", "words.wav", "--jsonl"],
        ["verify", "m.onnx", "words.wav"],
        ["info"],
        ["evaluate", "m.onnx", "--data", "tones/tones.csv", "--split", "testing", "--streaming"],
        ["calibrate", "m.onnx", "--ambient", "high.wav", "--max-false-alarms-per-hour", "1"],
        ["bench", "listen", "m.onnx"],
        ["devices", "--json"],
    ],
    ids=lambda command: command[0],
)
def test_the_packages_for_small_machines_are_enough(folder, small, command):
    code = "from speechgru.cli import entry_point; entry_point()"
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *command],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PYTHONPATH": f"{PROJECT}:{small}", "SPEECHGRU_CACHE": str(folder / "cache")},
    )
    assert done.returncode in ((0, 3) if command[0] == "devices" else (0,)), done.stderr
    assert "Traceback" not in done.stderr
    assert not (small / "torch").exists()
