"""The module for browsers in Node.js: its detector, resets and resampler are Python's."""

import json

import numpy as np
import pytest
import soxr
from node import run_node

from speechgru.decoding.detector import Detector, DetectorConfig
from speechgru.recognition.state_policy import StatePolicy, StateResets


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
            most_silence=float(rng.choice([0.05, 0.2, 1.0])),
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


_WRONG = ("5", "0.9", "-1", "NaN")


def test_only_thresholds_change_within_a_stream(module):
    found = run_node(
        """
        import { Detector } from "./speechgru.js";
        const config = { smoothing_s: 0.1, threshold: 0.9, thresholds: {}, min_duration_s: 0.1,
          refractory_s: 0.5, release: 0.8, most_unknown: 1, unknown_s: 0.5 };
        const detector = new Detector(["_silence_", "_unknown_", "go"], 0.02, config);
        const thresholds = [{ up: 0.5 }, { go: 5 }, { go: "0.9" }, { go: -1 }, { go: NaN }];
        const refused = [{ smoothing_s: 0.2 }, { most_unknown: 0.1 }, { pause_s: 0.7 },
          ...thresholds.map((thresholds) => ({ thresholds }))].map((change) => {
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
        *(f"thresholds.go: {n}; a number above 0 and up to 1 is needed" for n in _WRONG),
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
    assert told[0].startswith("decoder.treshold: one of pause_s, most_silence, smoothing_s, ")
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
