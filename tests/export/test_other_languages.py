"""The guide for other languages: its tables fit the model, its JavaScript gives Python's results.

Node.js runs it with onnxruntime-node or onnxruntime-web, if one of them is found: next to this
file, in a folder above, or in one that NODE_PATH names.
"""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from speechgru.audio.files import read
from speechgru.backends.onnx import SAMPLES, STATE, load_onnx
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.decoding.detector import DetectorConfig
from speechgru.modelfile import bundled
from speechgru.recognition.recognizer import CARRY, open_recognizer

PROJECT = Path(__file__).resolve().parents[2]
PAGE_FILE = PROJECT / "recipes" / "guides" / "other-languages-and-browser.md"
PAGE = PAGE_FILE.read_text(encoding="utf-8")
EXAMPLE = "".join(re.findall(r"```js\n(.*?)```", PAGE, re.DOTALL))

SUPPORT = PROJECT / "tests" / "support"
#: Finds the library; fails if there is none.
FIND = (SUPPORT / "find_onnxruntime.js").read_text(encoding="utf-8")
RUN = (SUPPORT / "run_guide_example.js").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def node() -> str:
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    if subprocess.run([node, "-e", FIND], cwd=PROJECT / "tests").returncode:
        pytest.skip("neither onnxruntime-node nor onnxruntime-web: npm install onnxruntime-web")
    return node


@pytest.fixture(scope="module")
def sound() -> np.ndarray:
    """Words of the embedded corpus, with pauses."""
    clips = [c for c in open_corpus(embedded_corpus()).split("testing") if c.word == "stop"]
    pause = np.zeros(8_000, np.float32)
    parts = [part for clip in clips[:5] for part in (read(clip.path, 16_000), pause)]
    samples = np.concatenate([pause, *parts])
    return samples[: len(samples) // 320 * 320]


def test_javascript_gives_the_same_posteriors_and_events(node, sound, tmp_path):
    backend = load_onnx(bundled.MODEL)
    sound.astype("<f4").tofile(tmp_path / "sound.f32")
    (tmp_path / "info.json").write_text(json.dumps({"labels": backend.labels}))
    script = FIND + EXAMPLE + RUN
    files = [str(path) for path in (bundled.MODEL, tmp_path / "sound.f32", tmp_path / "info.json")]
    done = subprocess.run(
        [node, "-e", script, *files],
        capture_output=True,
        text=True,
        cwd=PROJECT / "tests",
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    printed = json.loads(done.stdout.splitlines()[-1])
    expected, _ = backend(sound, backend.initial_state())
    np.testing.assert_allclose(np.array(printed["steps"]), expected, atol=1e-4)
    simple = DetectorConfig(
        smoothing_s=0.3, threshold=0.5, min_duration_s=0.0, refractory_s=0.0, release=0.8
    )
    recognizer = open_recognizer(backend, simple, CARRY)
    events = recognizer.push(sound) + recognizer.flush()
    assert [event["word"] for event in printed["events"]] == [event.word for event in events]
    assert "stop" in {event.word for event in events}
    for event, own in zip(printed["events"], events, strict=True):
        assert event["t"] == pytest.approx(own.t, abs=1e-6)


def test_guide_names_the_bundled_models_inputs():
    backend = load_onnx(bundled.MODEL)
    table = PAGE[PAGE.index("| state | shape |") : PAGE.index("Other models have")]
    for name, array in backend.initial_state().items():
        assert f"`{name}`" in table
        assert str(array.shape) in table
    assert f"{backend.sample_rate:,} Hz, steps of {backend.step_samples} samples" in PAGE
    assert f"V = {len(backend.labels)}" in PAGE
    assert f"const STEP = {backend.step_samples};" in EXAMPLE
    for name in (SAMPLES, f"{STATE}NAME", "log_posteriors", "next.NAME"):
        assert f"`{name}`" in PAGE


def test_guide_names_the_metadata():
    header = load_onnx(bundled.MODEL).header
    table = PAGE[PAGE.index("| key |") : PAGE.index("A missing key under")]
    for key in ("labels", "outputs", "graph", "features", "model", "format_version"):
        assert f"`{key}`" in table
        assert key in header
    for field in DetectorConfig.model_fields:
        assert f"`{field}`" in table
