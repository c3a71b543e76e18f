"""Exported C on emulated microcontrollers, the examples for boards, and its time on a host."""

import ctypes
import shutil
import subprocess
import time

import numpy as np
import pytest
from c_builds import DRIVER, SANITIZED, build, in_python
from c_chips import CHIPS, build_for, compile_sources

from speechgru.backends.onnx import OnnxBackend
from speechgru.export.c.writer import write_c
from speechgru.export.exporter import as_onnx
from speechgru.modelfile.bundled import find_model
from speechgru.modelfile.safetensors import load_model

pytestmark = pytest.mark.slow

VENDOR = DRIVER.parent / "vendor"
WARNINGS = ("-Wall", "-Wextra", "-Werror")
#: Each example, as its vendor's tools compile it: language, standard, chip.
EXAMPLES = {
    "arduino/arduino.ino": ("c++", "gnu++14", "cortex-m4"),
    "esp-idf/main/main.c": ("c", "gnu17", "riscv32imc"),
}


@pytest.fixture(scope="module")
def on_host(tmp_path_factory, real_stream, small_commands):
    """What the small model gives for 20 s of the stream on this machine."""
    program = build(small_commands, tmp_path_factory.mktemp("host"), "gcc", "-O2")
    found = program.run(real_stream[: 20 * 16_000])
    assert len(found.events) > 3
    return found


@pytest.mark.parametrize(
    ("name", "seconds"),
    [("cortex-m4", 20), ("cortex-m33", 20), ("cortex-m0plus", 5), ("riscv32imc", 5)],
)
def test_emulated_cores_answer_as_the_host_does(
    tmp_path, real_stream, small_commands, on_host, name, seconds
):
    chip = build_for(CHIPS[name], small_commands, tmp_path)
    found, measured = chip.run(real_stream[: seconds * 16_000])
    print(name, f"flash {chip.flash_bytes}", measured)
    steps = 50 * seconds
    assert measured["steps"] == steps
    assert found.events == [e for e in on_host.events if e[3] <= seconds * 16_000]
    assert np.array_equal(found.log_posteriors, on_host.log_posteriors[:steps])
    assert abs(measured["two_million"] - 2_000_000) < 1_000
    assert chip.flash_bytes <= 160_000
    assert measured["state_bytes"] + measured["stack_bytes"] <= 40_000
    if name in ("cortex-m4", "cortex-m33"):  # the others have no FPU
        assert 50 * measured["mean_instructions"] <= 40e6


def test_an_emulated_cortex_m4_runs_the_large_model(tmp_path, real_stream):
    model = load_model(find_model("commands-12", trained=True))
    samples = real_stream[: 10 * 16_000]
    expected = build(model, tmp_path / "host", "gcc", "-O2").run(samples)
    chip = build_for(CHIPS["cortex-m4"], model, tmp_path / "chip")
    found, measured = chip.run(samples)
    print(f"flash {chip.flash_bytes}", measured)
    assert expected.events
    assert found.events == expected.events


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_compile_for_their_chip_without_a_warning(tmp_path, small_commands, example):
    """Against declarations of what they use: the vendors' own headers are not installed."""
    *_, name = EXAMPLES[example]
    chip = CHIPS[name]
    if shutil.which(f"{chip.tools}gcc") is None:
        pytest.skip(f"{chip.tools}gcc is not installed")
    write_c(small_commands, tmp_path)
    compile_sources(chip, tmp_path, "-O2")
    command = [f"{chip.tools}gcc", *chip.options, *_example(tmp_path, example), "-c"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "example.o")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_print_the_words_of_the_samples(tmp_path, real_stream, small_commands, example):
    samples = real_stream[: 20 * 16_000]
    command = _host_example(tmp_path, small_commands, example)
    done = subprocess.run(command, input=samples.tobytes(), capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    words = done.stdout.decode().split()
    assert len(words) > 3
    assert words == [event[0] for event in in_python(small_commands, samples).events]


def test_a_late_arduino_loses_samples_and_goes_on(tmp_path, real_stream, small_commands):
    """Its microphone stops for good when nobody reads what it has."""
    command = _host_example(tmp_path, small_commands, "arduino/arduino.ino")
    samples = real_stream[: 60 * 16_000].tobytes()
    done = subprocess.run([*command, "late"], input=samples, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.split()


def _example(folder, example):
    """How an example is compiled: options and file."""
    language, standard, _ = EXAMPLES[example]
    vendor = VENDOR / example.split("/")[0]
    options = [*WARNINGS, f"-std={standard}", f"-I{vendor}", f"-I{folder / 'src'}"]
    if language == "c++":  # as the Arduino tools do
        options += ["-include", "Arduino.h"]
    return [*options, "-x", language, str(folder / "examples" / example)]


def _host_example(folder, model, example):
    """An example as a program for this machine that takes samples from stdin."""
    language, _, _ = EXAMPLES[example]
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    write_c(model, folder)
    run = next((VENDOR / example.split("/")[0]).glob("run.c*"))
    common = ["-O2", *SANITIZED]
    sources = [str(path) for path in sorted((folder / "src").glob("*.c"))]
    for command in (
        ["gcc", *common, "-c", *sources],
        ["g++" if language == "c++" else "gcc", *common, *_example(folder, example), "-c"],
    ):
        subprocess.run(command, check=True, cwd=folder)
    objects = [str(path) for path in folder.glob("*.o")]
    program = str(folder / "example")
    compiler = "g++" if language == "c++" else "gcc"
    options = [*common, *WARNINGS, f"-I{run.parent}", str(run), *objects, "-lm", "-o", program]
    subprocess.run([compiler, *options], check=True)
    return [program]


@pytest.mark.parametrize("kind", ["-USG_FLOAT", "-DSG_FLOAT"])
def test_a_host_takes_at_most_half_of_the_time_of_onnx(tmp_path, real_stream, small_commands, kind):
    """The fastest of several calls for each chunk, both in turn."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed")
    samples = np.ascontiguousarray(real_stream[: 20 * 16_000])
    write_c(small_commands, tmp_path)
    library = tmp_path / "libspeechgru.so"
    sources = [str(path) for path in sorted((tmp_path / "src").glob("*.c"))]
    options = ["-std=c99", "-O3", kind, "-shared", "-fPIC", f"-I{tmp_path / 'src'}"]
    subprocess.run(["gcc", *options, *sources, "-lm", "-o", str(library)], check=True)
    exported = ctypes.CDLL(str(library))
    backend = OnnxBackend(as_onnx(small_commands, "float32"))
    c_s, onnx_s = [], []
    for _ in range(5):
        c_s.append(_c_times(exported, samples))
        onnx_s.append(_onnx_times(backend, samples))
    fastest = [1e6 * np.median(np.min(times, axis=0)) for times in (c_s, onnx_s)]
    print(f"{kind}: {fastest[0]:.1f} us a chunk, the ONNX file {fastest[1]:.1f} us")
    assert fastest[0] <= 0.5 * fastest[1]


def _c_times(exported, samples):
    """Seconds of each chunk of 20 ms, with a call from Python."""
    state, event = ctypes.create_string_buffer(65_536), ctypes.create_string_buffer(64)
    exported.sg_push.restype = ctypes.c_size_t
    exported.sg_init(state)
    times, n = [], ctypes.c_size_t(320)
    for start in range(0, len(samples), 320):
        chunk = ctypes.c_void_p(samples.ctypes.data + 2 * start)
        began = time.perf_counter()
        exported.sg_push(state, chunk, n, event)
        times.append(time.perf_counter() - began)
    return times


def _onnx_times(backend, samples):
    floats = samples.astype(np.float32) / 32_768
    state, times = backend.initial_state(), []
    for start in range(0, len(floats), 320):
        chunk = floats[start : start + 320]
        began = time.perf_counter()
        _, state = backend(chunk, state)
        times.append(time.perf_counter() - began)
    return times
