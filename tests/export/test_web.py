"""The page for the browser, in a real Chromium: its events are those of `listen --input`."""

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from chromium import chromium, static_server
from node import run_node
from places import PROJECT
from servers import words_in_noise
from tone_listener import tone_listener

from speechgru.backends.loader import load
from speechgru.backends.onnx import load_onnx
from speechgru.cli import main
from speechgru.decoding.detector import DetectorConfig
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.export.exporter import as_onnx
from speechgru.export.web.runtime import find_runtime, has_runtime
from speechgru.export.web.site import PAGE_FILES, page_header, write_site
from speechgru.modelfile.bundled import MODEL
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.state_policy import StatePolicy

STEP = 320


@pytest.fixture(scope="module")
def runtime():
    """Where Node.js has it, else by npm."""
    places = os.environ.get("NODE_PATH", "").split(os.pathsep)
    for place in places:
        if place and has_runtime(Path(place) / "onnxruntime-web" / "dist"):
            return Path(place) / "onnxruntime-web" / "dist"
    try:
        return find_runtime()
    except SpeechGRUError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def own_model(tmp_path_factory):
    """A model of tones, with thresholds of its own, and a recording that it knows."""
    from tone_listener import stream, tone_listener

    model = tone_listener()
    model.metadata = {
        **model.metadata,
        "decoder": {"threshold": 0.6, "thresholds": {"low": 0.7}, "refractory_s": 0.2},
        "state_policy": {"mode": "silence", "silence_s": 0.2},
    }
    path = tmp_path_factory.mktemp("own") / "tones.onnx"
    path.write_bytes(as_onnx(model, "float32").content)
    samples, _ = stream(["low", "high", "mid", "low", "mid"])
    return path, np.rint(samples * 32767).astype("<i2")


@pytest.fixture(scope="module")
def own_trained(tmp_path_factory):
    """Trained weights, which are exported before their page is written."""
    path = tmp_path_factory.mktemp("trained") / "tones.safetensors"
    save_model(tone_listener(), path)
    return path


def test_the_page_has_its_files_and_every_setting(module, empty_runtime):
    for name in PAGE_FILES:
        assert (module / name).stat().st_size
    header = json.loads((module / "model.json").read_text())
    decoder = header["metadata"]["decoder"]
    assert set(decoder) == set(DetectorConfig.model_fields)
    assert set(header["metadata"]["state_policy"]) == set(StatePolicy.model_fields)
    assert decoder["threshold"] == load_onnx(MODEL).metadata["decoder"]["threshold"]


def test_other_files_of_the_folder_are_no_part_of_its_size(tmp_path, empty_runtime):
    alone = write_site(MODEL, tmp_path / "site", empty_runtime).size_bytes
    (tmp_path / "site" / "recordings.tar").write_bytes(bytes(10_000))
    assert write_site(MODEL, tmp_path / "site", empty_runtime).size_bytes == alone


def test_an_exported_model_has_every_setting_too():
    from tones import untrained_model

    model = untrained_model(("low", "high"))
    model.metadata = {"decoder": {"thresholds": {"low": 0.7}}}
    decoder = as_onnx(model, "float32").header["metadata"]["decoder"]
    assert set(decoder) == set(DetectorConfig.model_fields)
    assert decoder["thresholds"] == {"low": 0.7}


def test_a_model_without_a_detector_has_no_page():
    with pytest.raises(UsageError, match="classify head"):
        page_header({"outputs": {"ctc": ["_blank_"]}, "metadata": {}})


def test_a_folder_without_the_runtime_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"ort\.wasm"):
        find_runtime(tmp_path)


def test_the_command_writes_a_page(tmp_path, empty_runtime, capsys):
    options = ["--web", str(tmp_path / "site"), "--onnxruntime-web", str(empty_runtime)]
    assert main(["export", "commands-12", *options, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["folder"] == str(tmp_path / "site")
    assert (tmp_path / "site" / "index.html").exists()


def test_the_guide_imports_what_the_module_exports(module):
    guide = (PROJECT / "recipes/guides/other-languages-and-browser.md").read_text("utf-8")
    (names,) = re.findall(r"^import { (.*) } from \"./site/speechgru.js\"", guide, re.MULTILINE)
    code = 'import * as all from "./speechgru.js"; console.log(JSON.stringify(Object.keys(all)))'
    assert set(names.split(", ")) <= set(run_node(code, module))


def test_an_earlier_page_stays_whole_if_another_cannot_be_written(
    own_trained, tmp_path, empty_runtime, capsys
):
    site = tmp_path / "site"
    write_site(MODEL, site, empty_runtime)
    before = {path: path.read_bytes() for path in site.rglob("*") if path.is_file()}
    options = ["--web", str(site), "--onnxruntime-web", str(tmp_path / "none")]
    assert main(["export", str(own_trained), *options]) == 2
    assert {path: path.read_bytes() for path in site.rglob("*") if path.is_file()} == before


def test_files_of_ones_own_are_not_replaced(own_trained, tmp_path, empty_runtime, capsys):
    site = tmp_path / "site"
    site.mkdir()
    (site / "index.html").write_text("mine")
    for model in (str(own_trained), "commands-12"):
        options = ["--web", str(site), "--onnxruntime-web", str(empty_runtime)]
        assert main(["export", model, *options]) == 2
        assert "index.html is there already" in " ".join(capsys.readouterr().err.split())
    assert [path.name for path in site.iterdir()] == ["index.html"]
    assert (site / "index.html").read_text() == "mine"


HEAR = """
(async () => {
  const { Recognizer } = await import("./speechgru.js");
  const recognizer = await Recognizer.load();
  const bytes = new Int16Array(await (await fetch("sound.s16")).arrayBuffer());
  const samples = Float32Array.from(bytes, (value) => value / 32768);
  const whole = await recognizer.push(samples);
  await recognizer.reset();
  const events = [];
  const started = performance.now();
  for (let i = 0; i < samples.length; i += 320) {
    events.push(...(await recognizer.push(samples.slice(i, i + 320))));
  }
  const seconds = (performance.now() - started) / 1000;
  return { whole, events, realTimeFactor: seconds / (samples.length / recognizer.sampleRate) };
})()
"""


@pytest.mark.slow
@pytest.mark.parametrize("which", ["bundled", "own"])
def test_chromium_hears_what_listen_hears(which, own_model, runtime, tmp_path):
    model, samples = (MODEL, words_in_noise()) if which == "bundled" else own_model
    recognizer = load(model)
    expected = recognizer.push(samples) + recognizer.flush()
    assert len(expected) >= 4
    site = tmp_path / "site"
    write_site(model, site, runtime)
    (site / "sound.s16").write_bytes(samples.tobytes())
    quiet = np.zeros(16_000, np.int16)
    soundfile.write(tmp_path / "sound.wav", np.concatenate([quiet, samples, quiet]), 16_000)
    with static_server(site) as url, chromium(tmp_path / "profile", tmp_path / "sound.wav") as page:
        page.open(url)
        page.wait_for("document.querySelector('#listen:enabled') !== null")
        found = page.evaluate(HEAR)
        for events in (found["whole"], found["events"]):
            assert [(e["word"], round(e["t"], 3)) for e in events] == [
                (e.word, round(e.t, 3)) for e in expected
            ]
            for one, other in zip(events, expected, strict=True):
                assert one["score"] == pytest.approx(other.score, abs=1e-3)
                assert one["start"] == pytest.approx(other.start_s, abs=0.021)
        # From the microphone, whose start nobody knows: the same words, as far apart. A double
        # click opens only one.
        page.watch_microphone()
        page.evaluate("for (let i = 0; i < 2; i++) document.getElementById('listen').click()")
        count = f"document.getElementById('events').children.length >= {len(expected)}"
        page.wait_for(count, 30)
        rows = page.evaluate(
            "[...document.querySelectorAll('#events li')].map("
            "(li) => [...li.children].map((span) => span.textContent)).reverse()"
        )
        page.disconnect_microphone()
        said = "the microphone was disconnected"
        assert page.evaluate("document.getElementById('words').textContent") == said
    assert [row[0] for row in rows] == [event.word for event in expected]
    times = [float(row[2].split()[0]) for row in rows]
    # Frames begin elsewhere in the sound, so that each event may come two steps sooner or later.
    np.testing.assert_allclose(np.diff(times), np.diff([e.t for e in expected]), atol=0.081)
