"""Exported C, compiled and run on samples; and what Python makes of the same samples."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from speechgru.backends.pytorch import TorchBackend
from speechgru.decoding.events import PosteriorRecorder
from speechgru.decoding.factory import decoder_settings, make_decoder
from speechgru.export.c.writer import write_c
from speechgru.recognition.recognizer import Recognizer, stream_settings

DRIVER = Path(__file__).parent / "c" / "drive.c"
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wconversion", "-pedantic", "-Werror")
SANITIZED = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all")
#: An event is the same if its word is, and it was decided at most so much earlier or later.
SAME_EVENT_S = 0.1


@dataclass(frozen=True)
class Run:
    """Log-posteriors (T, V), and events as (word, start, end, decided) in samples."""

    log_posteriors: np.ndarray
    events: list[tuple[str, int, int, int]]


def in_python(model, samples: np.ndarray) -> Run:
    """What the model's own recognizer makes of 16-bit samples."""
    backend = TorchBackend(model)
    config = decoder_settings(backend.info)
    _, policy = stream_settings(model.metadata, config=config)
    recorder = PosteriorRecorder(make_decoder(backend.info, config))
    recognizer = Recognizer(backend, recorder, policy)
    found = recognizer.push(samples) + recognizer.flush()
    rate = model.sample_rate
    events = [
        (e.word, round(e.start_s * rate), round(e.end_s * rate), round(e.t * rate)) for e in found
    ]
    return Run(recorder.log_posteriors, events)


@dataclass(frozen=True)
class Build:
    """A program from exported C; `command` runs it."""

    command: tuple[str, ...]
    labels: int
    folder: Path

    def run(self, samples: np.ndarray, chunk: int = 320, seed: int = 0) -> Run:
        """Push 16-bit samples: chunks of `chunk`, or with a seed of 1 to `chunk` at random."""
        pcm, out = self.folder / "samples.pcm", self.folder / "log_posteriors.f32"
        pcm.write_bytes(samples.astype("<i2").tobytes())
        arguments = [str(pcm), str(out), str(chunk), str(seed)]
        done = subprocess.run([*self.command, *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = [line.rsplit(maxsplit=4) for line in done.stdout.splitlines()]
        events = [(word, int(a), int(b), int(t)) for word, a, b, t, _ in lines]
        return Run(np.fromfile(out, "<f4").reshape(-1, self.labels), events)


def build(model, folder: Path, compiler: str, *options: str) -> Build:
    """Export a model and compile it for this machine; skips without the compiler."""
    if shutil.which(compiler) is None:
        pytest.skip(f"{compiler} is not installed")
    write_c(model, folder)
    sources = [str(path) for path in sorted((folder / "src").glob("*.c"))]
    program = folder / "drive"
    command = [compiler, *options, f"-I{folder / 'src'}", *sources, str(DRIVER), "-lm"]
    done = subprocess.run([*command, "-o", str(program)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return Build((str(program),), len(model.labels), folder)


def same_events(run: Run, other: Run, rate: int) -> int:
    """How many events of a run the other one has too."""
    others, same = list(other.events), 0
    for word, *_, decided in run.events:
        near = [e for e in others if e[0] == word and abs(e[3] - decided) <= SAME_EVENT_S * rate]
        if near:
            others.remove(near[0])
            same += 1
    return same
