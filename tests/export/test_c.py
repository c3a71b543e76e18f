"""Exported C: what is refused, what is written, and what it answers, by two compilers."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from c_builds import SANITIZED, STRICT, build, in_python, same_events
from tones import untrained_model

from speechgru.cli import main
from speechgru.decoding.detector import UNIT as DETECTOR_UNIT
from speechgru.errors import UsageError
from speechgru.export.c.model_files import UNIT
from speechgru.export.c.tables import TILE, Rows, frontend_tables, network_tables
from speechgru.export.c.text import comment, fours, literal, table
from speechgru.export.c.writer import check_model, write_c
from speechgru.export.weights import to_int8
from speechgru.labels import SILENCE, UNKNOWN
from speechgru.model.features import FeatureConfig
from speechgru.model.network import ModelConfig, SpeechGRU
from speechgru.modelfile.bundled import MODEL, find_model
from speechgru.modelfile.safetensors import load_model, save_model

LABELS = (SILENCE, UNKNOWN, "yes", "no", "stop")
SMALL = {"hidden": 24, "layers": 2, "front": "conv", "front_channels": (4, 8), "front_kernel": 3}
#: A random network's outputs are events with these.
LIVELY = {"smoothing_s": 0.1, "threshold": 0.4, "min_duration_s": 0.04, "refractory_s": 0.1}
FEATURES = {"kind": "logmel", "mels": 20, "fft_samples": 512}


def small_model(
    features=None, metadata=None, unknown_words=("cat", "dog"), labels=LABELS, **settings
):
    """A network with random weights whose outputs are strong enough for events."""
    torch.manual_seed(3)
    metadata = dict(metadata or {})
    metadata["decoder"] = LIVELY | metadata.get("decoder", {})
    config = ModelConfig(**SMALL | settings)
    model = SpeechGRU(
        config, FeatureConfig(**FEATURES | (features or {})), labels, unknown_words, metadata
    )
    with torch.no_grad():
        model.mean.fill_(-4.0)
        model.deviation.fill_(3.0)
        model.head.weight.mul_(8.0)
        model.head.bias.zero_()
        model.log_prior.copy_(torch.linspace(-0.3, 0.3, len(LABELS)))
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
            if isinstance(module, torch.nn.GRU):
                module.weight_ih_l0.mul_(3.0)
    model.eval()
    if not model.config.whole_clips and model.config.heads == ("classify",):
        _balance(model)
    return model


@torch.no_grad()
def _balance(model):
    """Set the head's biases so that no label is ahead of the others on average, in noise."""
    levels = torch.linspace(-3, 0, 32_000)
    noise = torch.randn(1, 32_000, generator=torch.Generator().manual_seed(0)) * 10**levels
    state = model.initial_state()
    encoded, _ = model.encode(model.extract(noise, state["samples"])[0], state)
    model.head.bias.copy_(-model.head(encoded).mean(dim=(0, 1)))


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        (lambda: small_model(cell="lstm"), "cell \"gru\" only; this is 'lstm'"),
        (lambda: small_model(cell="transformer"), "cell \"gru\" only; this is 'transformer'"),
        (lambda: small_model(heads=("ctc",), unknown_words=()), "the model has ctc"),
        (lambda: small_model(heads=("classify", "ctc")), "the model has classify, ctc"),
        (lambda: small_model(bidirectional=True), "needs whole clips"),
        (lambda: small_model(pooling="attention"), "needs whole clips"),
        (lambda: small_model({"fft_samples": 600}), "must be a power of two"),
        (lambda: untrained_model((SILENCE, UNKNOWN)), "no words"),
    ],
)
def test_what_the_sources_lack_is_refused(model, sentence, tmp_path):
    with pytest.raises(UsageError, match=sentence):
        write_c(model(), tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_fronts_and_features_of_the_recipes_are_taken():
    for front in ("conv", "stack"):
        check_model(small_model(front=front))
        check_model(small_model({"kind": "mfcc", "cepstra": 12}, front=front))


def test_the_command_writes_sources_and_says_how_large(tmp_path, capsys):
    save_model(small_model(), tmp_path / "m.safetensors")
    arguments = ["export", str(tmp_path / "m.safetensors"), "--c", str(tmp_path / "c")]
    assert main([*arguments, "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert written["labels"] == list(LABELS)
    assert written["parameters"] < written["int8_bytes"] < 2 * written["parameters"]
    names = {path.name for path in (tmp_path / "c").rglob("*") if path.is_file()}
    assert {"CMakeLists.txt", "speechgru.h", "sg_model.h", "listen.c", "arduino.ino"} <= names
    assert f"#define SG_HIDDEN {SMALL['hidden']}\n" in (tmp_path / "c/src/sg_model.h").read_text()
    assert main(arguments) == 0
    assert "M multiply-adds a second" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["m.safetensors", "--c", "c", "--int8"], 2, "--c: cannot be combined"),
        (["m.safetensors", "--c", "c", "-o", "m.onnx"], 2, "--c: cannot be combined"),
        (["none.safetensors", "--c", "c"], 4, "no such file"),
        (["m.safetensors", "--c", "m.safetensors"], 1, "is not a directory"),
        ([str(MODEL), "--c", "c"], 2, "is exported already"),
    ],
)
def test_invalid_options_are_one_sentence(tmp_path, capsys, monkeypatch, arguments, code, sentence):
    monkeypatch.chdir(tmp_path)
    save_model(small_model(), tmp_path / "m.safetensors")
    assert main(["export", *arguments]) == code
    assert sentence in capsys.readouterr().err.replace("\n", " ")
    assert not (tmp_path / "c").exists()


def test_only_files_of_an_earlier_export_are_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "CMakeLists.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"CMakeLists\.txt is there already"):
        write_c(small_model(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["CMakeLists.txt", "notes.txt"]
    (tmp_path / "CMakeLists.txt").unlink()
    write_c(small_model(), tmp_path)
    (tmp_path / "CMakeLists.txt").write_text("changed")
    write_c(small_model(hidden=20), tmp_path)
    assert "speechgru" in (tmp_path / "CMakeLists.txt").read_text()
    assert "SG_HIDDEN 20\n" in (tmp_path / "src/sg_model.h").read_text()
    assert (tmp_path / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_bands_up_to_half_the_sample_rate_have_their_tables(rate):
    features = FeatureConfig(kind="logmel", sample_rate=rate, high_hz=rate / 2, fft_samples=2048)
    model = SpeechGRU(ModelConfig(hidden=8), features, ("_silence_", "a"))
    bands = frontend_tables(model).bands
    assert len(bands) == features.mels
    assert max(first + length for first, length in bands) <= features.fft_samples // 2


def test_rows_in_8_bits_are_the_weights_filled_up_to_fours():
    rng = np.random.default_rng(0)
    rows = Rows(rng.normal(0, 1, (6, 3, 10)).astype(np.float32), np.zeros(6, np.float32))
    weights, scales = rows.int8()
    assert weights.shape == (6, 3, 12)
    assert scales.shape == (6,)
    assert not weights[..., 10:].any()
    assert np.abs(weights[..., :10] * scales[:, None, None] - rows.weights).max() <= (
        scales.max() / 2 * 1.001
    )
    numbers, _ = to_int8(rows.weights)
    assert np.array_equal(weights[..., :10], numbers)


def test_rows_as_floats_are_in_tiles_of_outputs():
    weights = np.random.default_rng(0).normal(0, 1, (TILE + 5, 3, 10)).astype(np.float32)
    tiles = Rows(weights, np.zeros(len(weights), np.float32)).tiles()
    assert tiles.shape == (2, 3, 10, TILE)
    rows = tiles.transpose(0, 3, 1, 2).reshape(2 * TILE, 3, 10)
    assert np.array_equal(rows[: len(weights)], weights)
    assert not rows[len(weights) :].any()


def test_no_sum_leaves_32_bits():
    model = small_model(hidden=600, layers=1)
    with torch.no_grad():
        model.layers[0].gru.weight_hh_l0.fill_(1.0)
    largest = network_tables(model).largest_activation
    assert largest < 32_767
    assert 600 * 127 * largest < 2**31 <= 600 * 127 * (largest + 1)
    assert network_tables(small_model()).largest_activation == 32_767


def test_text_is_safe_in_c():
    assert literal('für "x"?\\') == '"f\\303\\274r \\042x\\042\\077\\134"'
    assert "*/" not in comment("a */ b")
    assert table("const float", "x", np.array([1.0, 0.1], np.float32)) == (
        "const float x[2] = {\n    1.0f, 0.100000001f,\n};\n"
    )
    assert fours("const int8_t", "w", np.array([[1, -2, 3, 4]], np.int8)) == (
        "const int8_t w[4] = {\n    SG_FOUR(1, -2, 3, 4),\n};\n"
    )


def test_sums_of_the_longest_windows_fit_32_bits():
    """10 s of steps of 10 ms, the shortest ones."""
    assert 1000 * UNIT < 2**32
    assert DETECTOR_UNIT >= UNIT


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("front", ["conv", "stack"])
def test_floats_give_what_python_gives_in_any_chunking(tmp_path, real_stream, compiler, front):
    samples = real_stream[: 20 * 16_000]
    policy = {"state_policy": {"mode": "silence", "silence_s": 0.2}}
    model = small_model(front=front, metadata=policy)
    python = in_python(model, samples)
    assert len(python.events) > 3
    program = build(model, tmp_path, compiler, "-O1", "-DSG_FLOAT", *STRICT, *SANITIZED)
    for chunk, seed in ((320, 0), (7, 0), (300, 1)):
        found = program.run(samples, chunk, seed)
        assert np.abs(found.log_posteriors - python.log_posteriors).max() < 1e-4
        assert found.events == python.events
    for chunk, seed in ((65_536, 0), (5_000, 2)):
        assert program.run(samples, chunk, seed).events == python.events


@pytest.mark.slow
@pytest.mark.parametrize(
    ("features", "settings", "metadata"),
    [
        ({"kind": "mfcc", "cepstra": 13}, {}, {}),
        ({"window_ms": 25.0, "fft_samples": 1024}, {"front_kernel": 2}, {}),
        ({"mels": 17}, {"front_channels": (3, 5, 7), "front_kernel": 5}, {}),
        (
            {},
            {"layer_norm": False, "residual": False, "layers": 1},
            {"decoder": {"threshold": 0.1}},
        ),
        ({"hop_ms": 8.0}, {"hidden": 19}, {"state_policy": {"mode": "event"}}),
        ({}, {}, {"state_policy": {"mode": "carry"}, "decoder": {"smoothing_s": 0.0}}),
        ({}, {}, {"decoder": {"most_unknown": 0.3, "refractory_s": 0.0, "threshold": 0.3}}),
        ({}, {}, {"decoder": {"most_unknown": 0.1, "pause_s": 0.7, "threshold": 0.3}}),
        ({}, {}, {"decoder": {"most_silence": 0.1, "threshold": 0.3}}),
        ({}, {}, {"decoder": {"thresholds": {"no": 0.2}, "min_duration_s": 0.3, "release": 0.5}}),
    ],
)
def test_every_setting_that_is_taken_is_right(tmp_path, real_stream, features, settings, metadata):
    samples = real_stream[: 20 * 16_000]
    model = small_model(features, metadata, **settings)
    python = in_python(model, samples)
    assert python.events
    program = build(model, tmp_path, "gcc", "-O1", "-DSG_FLOAT", *STRICT, *SANITIZED)
    found = program.run(samples, model.step_samples)
    assert np.abs(found.log_posteriors - python.log_posteriors).max() < 1e-4
    assert found.events == python.events


@pytest.mark.slow
@pytest.mark.parametrize("name", ["commands-12", "commands-12-small"])
def test_8_bits_give_the_same_events_on_20_minutes(tmp_path, real_stream, name):
    model = load_model(find_model(name, trained=True))
    python = in_python(model, real_stream)
    assert len(python.events) > 200
    for kind in ("-DSG_FLOAT", "-USG_FLOAT"):
        folder = tmp_path / kind
        found = build(model, folder, "gcc", "-O3", kind, *STRICT).run(real_stream)
        both = same_events(python, found, model.sample_rate)
        most = max(len(python.events), len(found.events))
        print(f"{name} {kind}: {both} of {len(python.events)}, {len(found.events)} events")
        assert both >= (0.99 * most if kind == "-USG_FLOAT" else most)


@pytest.mark.slow
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_8_bits_are_the_same_in_any_chunking(tmp_path, real_stream, compiler):
    samples = real_stream[: 20 * 16_000]
    program = build(small_model(), tmp_path, compiler, "-O1", *STRICT, *SANITIZED)
    whole = program.run(samples)
    for chunk, seed in ((7, 0), (300, 1)):
        found = program.run(samples, chunk, seed)
        assert np.array_equal(found.log_posteriors, whole.log_posteriors)
        assert found.events == whole.events
    # Loud noise and full-scale square waves: no sum overflows.
    rng = np.random.default_rng(0)
    loud = np.where(rng.random(160_000) < 0.5, -32_768, 32_767).astype(np.int16)
    assert np.isfinite(program.run(loud).log_posteriors).all()


@pytest.mark.slow
def test_cmake_builds_the_example_for_a_host(tmp_path, real_stream):
    samples = real_stream[: 30 * 16_000]
    model = small_model(labels=(SILENCE, UNKNOWN, 'say "hi"', r"back\slash", "ö"))
    write_c(model, tmp_path / "c")
    configure = ["cmake", "-S", str(tmp_path / "c"), "-B", str(tmp_path / "b"), "-DSG_FLOAT=ON"]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", str(tmp_path / "b")], check=True, capture_output=True)
    done = subprocess.run(
        [tmp_path / "b" / "listen"], input=samples.tobytes(), capture_output=True, check=True
    )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    expected = in_python(model, samples).events
    assert [(e["word"], round(16_000 * e["t"])) for e in events] == [(e[0], e[3]) for e in expected]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run([tmp_path / "b" / "listen"], input=samples.tobytes(), stdout=full)
    assert events
    assert done.returncode == 1
