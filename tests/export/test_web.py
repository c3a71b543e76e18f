"""The page for the browser, in a real Chromium: its events are those of `listen --input`."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from chromium import chromium, static_server
from places import PROJECT
from servers import words_in_noise
from tone_listener import tone_listener

from speechgru.backends.loader import load
from speechgru.backends.onnx import load_onnx
from speechgru.cli import main
from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.errors import SpeechGRUError, UsageError
from speechgru.export.exporter import as_onnx
from speechgru.export.web.runtime import RUNTIME_FILES, find_runtime, has_runtime
from speechgru.export.web.site import PAGE_FILES, page_header, write_site
from speechgru.modelfile.bundled import MODEL
from speechgru.modelfile.safetensors import save_model
from speechgru.recognition.state_policy import StatePolicy, StateResets

STEP = 320


@pytest.fixture
def empty_runtime(tmp_path):
    folder = tmp_path / "runtime"
    folder.mkdir()
    for name in RUNTIME_FILES:
        (folder / name).write_text("")
    return folder


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


def run_node(code, folder):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed")
    (folder / "test.mjs").write_text(code)
    done = subprocess.run([node, "test.mjs"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def module(tmp_path, empty_runtime):
    folder = tmp_path / "site"
    write_site(MODEL, folder, empty_runtime)
    return folder


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


def test_the_detector_decides_as_pythons_does(module):
    """Random posteriors with long runs, under many settings."""
    rng = np.random.default_rng(0)
    labels = ("_silence_", "_unknown_", "yes", "no", "stop")
    cases = []
    for _ in range(40):
        config = DetectorConfig(
            smoothing_s=float(rng.choice([0.0, 0.05, 0.1, 0.3])),
            threshold=float(rng.uniform(0.2, 0.8)),
            thresholds={"no": 0.4} if rng.random() < 0.5 else {},
            min_duration_s=float(rng.choice([0.0, 0.05, 0.1])),
            refractory_s=float(rng.choice([0.0, 0.25, 0.5])),
            release=float(rng.uniform(0.5, 1)),
            most_unknown=float(rng.choice([0.05, 0.2, 1.0])),
            unknown_s=float(rng.choice([0.0, 0.3])),
            pause_s=float(rng.choice([0.0, 0.4])),
        )
        runs = np.repeat(rng.integers(0, len(labels), 60), rng.integers(1, 25, 60))
        scores = rng.normal(0, 1, (len(runs), len(labels)))
        scores[np.arange(len(runs)), runs] += rng.uniform(1, 6)
        posteriors = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
        cases.append((config, posteriors.astype(np.float32)))
    (module / "cases.json").write_text(
        json.dumps([[c.model_dump(), p.astype(float).tolist()] for c, p in cases])
    )
    found = run_node(
        f"""
        import {{ readFileSync }} from "fs";
        import {{ Detector }} from "./speechgru.js";
        const cases = JSON.parse(readFileSync("cases.json"));
        const labels = {json.dumps(labels)};
        console.log(JSON.stringify(cases.map(([config, steps]) => {{
          const detector = new Detector(labels, 0.02, config);
          return steps.map((step) => detector.push(step)).filter(Boolean);
        }})));
        """,
        module,
    )
    events = 0
    for (config, posteriors), theirs in zip(cases, found, strict=True):
        detector = Detector(labels, 0.02, config)
        ours = detector.push(posteriors) + detector.flush()
        assert [(e["word"], round(e["t"], 6)) for e in theirs] == [
            (e.word, round(e.t, 6)) for e in ours
        ]
        for one, other in zip(theirs, ours, strict=True):
            assert one["score"] == pytest.approx(other.score, abs=1e-6)
            assert one["start"] == pytest.approx(other.start_s, abs=1e-6)
            assert one["end"] == pytest.approx(other.end_s, abs=1e-6)
        events += len(ours)
    assert events > 200


def test_only_thresholds_change_within_a_stream(module):
    found = run_node(
        """
        import { Detector } from "./speechgru.js";
        const config = { smoothing_s: 0.1, threshold: 0.9, thresholds: {}, min_duration_s: 0.1,
          refractory_s: 0.5, release: 0.8, most_unknown: 1, unknown_s: 0.5 };
        const detector = new Detector(["_silence_", "_unknown_", "go"], 0.02, config);
        const refused = [{ smoothing_s: 0.2 }, { most_unknown: 0.1 }, { pause_s: 0.7 }, {
          thresholds: { up: 0.5 } }].map((change) => {
          try { detector.configure({ ...config, ...change }); return "accepted"; }
          catch (error) { return error.message; }
        });
        const times = [];
        for (let i = 0; i < 100; i++) {
          if (i === 50) detector.configure({ ...config, threshold: 0.5 });
          const event = detector.push([0.2, 0.2, 0.6].map(Math.log));
          if (event) times.push(event.t);
        }
        console.log(JSON.stringify([refused, times]));
        """,
        module,
    )
    refused, times = found
    assert refused == [
        "smoothing_s: only thresholds can change in a stream",
        "most_unknown: only thresholds can change in a stream",
        "pause_s: only thresholds can change in a stream",
        "threshold: the model has no word up",
    ]
    assert times == [pytest.approx(1.1)]  # after `min_duration_s`


def test_samples_and_settings_are_taken_as_they_are_given_or_refused(module):
    """A buffer may be used again at once; one threshold replaces those of single words."""
    found = run_node(
        """
        import { Recognizer } from "./speechgru.js";
        const ort = { Tensor: class { constructor(type, data, dims) { this.data = data; } } };
        const heard = [];
        const session = { inputMetadata: [{ name: "samples" }], run: async ({ samples }) => {
          heard.push(...samples.data);
          return { log_posteriors: { data: Float32Array.from([0.2, 0.1, 0.7], Math.log) } };
        } };
        const decoder = { smoothing_s: 0.1, threshold: 0.8, thresholds: { go: 0.5 },
          min_duration_s: 0.1, refractory_s: 0.5, release: 0.8, most_unknown: 1, unknown_s: 0.5 };
        const header = { graph: { sample_rate: 100, step_samples: 2 },
          outputs: { classify: ["_silence_", "_unknown_", "go"] },
          metadata: { decoder, state_policy: { mode: "carry", silence_s: 1 } } };
        const opened = (changes) => new Recognizer(ort, session, header, changes);
        const events = [];
        for (const changes of [{}, { threshold: 0.6 }, { threshold: 0.9 }]) {
          const recognizer = opened(changes), buffer = new Float32Array(2), answers = [];
          for (let i = 0; i < 40; i++) answers.push(recognizer.push(buffer.fill(i / 64)));
          events.push((await Promise.all(answers)).flat().length);
        }
        const told = [];
        for (const changes of [{ treshold: 0.9 }, { threshold: 99 }]) {
          try { opened(changes); } catch (error) { told.push(error.message); }
        }
        for (const samples of [new Int16Array(2), Float32Array.of(0, NaN)]) {
          await opened({}).push(samples).catch((error) => told.push(error.message));
        }
        console.log(JSON.stringify([events, heard.slice(0, 80), told]));
        """,
        module,
    )
    events, heard, told = found
    assert events == [1, 1, 0]
    assert heard == [i / 64 for i in range(40) for _ in range(2)]
    assert told[0].startswith("decoder.treshold: one of pause_s, smoothing_s, threshold, ")
    assert told[1:] == [
        "decoder.threshold: 99",
        "samples: a Float32Array in [-1, 1] is needed",
        "samples: number 1 is NaN",
    ]


def test_the_state_is_reset_where_python_resets_it(module):
    rng = np.random.default_rng(1)
    levels = np.repeat(10.0 ** rng.uniform(-3, -0.5, 60), rng.integers(2, 40, 60))
    sound = (rng.normal(0, 1, (len(levels), 32)) * levels[:, None]).astype(np.float32)
    had_event = rng.random(len(levels)) < 0.05
    (module / "sound.json").write_text(
        json.dumps([sound.astype(float).tolist(), had_event.tolist()])
    )
    found = run_node(
        """
        import { readFileSync } from "fs";
        import { StateResets } from "./speechgru.js";
        const [sound, events] = JSON.parse(readFileSync("sound.json"));
        console.log(JSON.stringify(["carry", "silence", "event"].map((mode) => {
          const resets = new StateResets({ mode, silence_s: 0.3 }, 32, 0.02);
          return sound.map((step, i) => resets.update(step, events[i]));
        })));
        """,
        module,
    )
    for mode, theirs in zip(("carry", "silence", "event"), found, strict=True):
        resets = StateResets(StatePolicy(mode=mode, silence_s=0.3), 32, 0.02)
        ours = [
            mode != "carry" and resets.update(step, [None] * int(event))
            for step, event in zip(sound, had_event, strict=True)
        ]
        assert theirs == ours
        assert mode == "carry" or sum(ours) >= 3


@pytest.mark.parametrize("rate", [48_000, 44_100, 8_000, 16_000])
def test_what_is_resampled_is_what_soxr_makes_of_it(module, rate):
    times = np.arange(rate) / rate
    tone = 0.5 * np.sin(2 * np.pi * 440 * times) + 0.3 * np.sin(2 * np.pi * 3_000 * times)
    found = run_node(
        f"""
        import {{ Resampler }} from "./speechgru.js";
        const sound = Float32Array.from({json.dumps(tone.round(6).tolist())});
        const inPieces = (size) => {{
          const resampler = new Resampler({rate}, 16000);
          const out = [];
          for (let i = 0; i < sound.length; i += size) {{
            out.push(...resampler.push(sound.slice(i, i + size)));
          }}
          return [...out, ...resampler.flush()];
        }};
        console.log(JSON.stringify([inPieces(1024), inPieces(77)]));
        """,
        module,
    )
    expected = soxr.resample(tone, rate, 16_000)
    assert found[0] == found[1]
    assert abs(len(found[0]) - 16_000) <= 1
    middle = slice(500, 15_500)
    np.testing.assert_allclose(found[0][middle], expected[middle], atol=2e-3)


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
