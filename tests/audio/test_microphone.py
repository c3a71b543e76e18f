"""Real capture: a PulseAudio sink plays a recording, PortAudio hears it as a microphone."""

import json
import os
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from virtual_microphone import plug

from speechgru.audio import devices as devices_module
from speechgru.audio.devices import Device, devices, find_device
from speechgru.audio.files import read
from speechgru.audio.microphone import Microphone
from speechgru.audio.portaudio import load_portaudio
from speechgru.audio.samples import fit, to_mono
from speechgru.audio.sources import microphone_blocks
from speechgru.cli import main
from speechgru.errors import AudioDeviceError, UsageError

__all__ = ["plug"]  # a fixture

#: A sound server and a microphone, in real time.
pytestmark = pytest.mark.slow

RATE = 16_000


@pytest.fixture(scope="module")
def spoken(gsc_open, tmp_path_factory):
    """A word after half a second of silence: a 48 kHz file, and the word alone.

    The silence is for the sink, which begins a little later than what is played.
    """
    word = fit(read(min((gsc_open / "stop").iterdir())), RATE)
    path = tmp_path_factory.mktemp("spoken") / "word.wav"
    loud = word / np.abs(word).max() / 2
    soundfile.write(path, to_mono(np.pad(loud, (RATE // 2, 0)), RATE, 48_000), 48_000)
    return path, read(path)[RATE // 2 :]


def hear(microphone, seconds):
    """The next seconds, at 16 kHz."""
    pieces, heard = [], 0
    for block in microphone_blocks(microphone, RATE):
        pieces.append(block.samples)
        heard += len(block.samples)
        if heard >= seconds * RATE:
            return np.concatenate(pieces)
    raise AssertionError("a microphone never ends")


def play(plug, path):
    player = threading.Thread(target=plug, args=("play", path))
    player.start()
    return player


def correlation(heard, played):
    """The largest over all lags, normalised: 1 where one stretch is the other, sample by sample."""
    size = 2 ** int(np.ceil(np.log2(len(heard) + len(played))))
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(played, size))
    lagged = np.fft.irfft(spectrum, size)[: len(heard) - len(played) + 1]
    energy = np.cumsum(np.concatenate([[0.0], heard.astype(np.float64) ** 2]))
    local = energy[len(played) :] - energy[: -len(played)]
    return float((lagged / np.sqrt(np.maximum(local, 1e-9) * np.sum(played**2))).max())


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_capture_loses_no_sample(plug, spoken, rate):
    path, played = spoken
    with Microphone(rate=rate) as microphone:
        assert microphone.rate == rate
        player = play(plug, path)
        heard = hear(microphone, len(played) / RATE + 1.0)
        assert microphone.overruns == 0
    player.join()
    # One lag fits all of it; a lost block would leave the half before or after it out. Below 1 as
    # the two may lie a fraction of a sample apart.
    assert correlation(heard, played) > 0.95


def test_capture_continues_after_unplugging(plug, spoken):
    path, played = spoken
    reported = []
    with Microphone(tell=reported.append) as microphone:
        assert len(hear(microphone, 0.2))
        plug("unplug")
        back = threading.Timer(0.5, plug, ["plug"])
        back.start()
        hear(microphone, 0.2)  # what was on its way, and then what comes after its return
        hear(microphone, 0.2)
        back.join()
        assert microphone.returns == 1
        player = play(plug, path)
        heard = hear(microphone, len(played) / RATE + 1.0)
    player.join()
    assert correlation(heard, played) > 0.95
    gone, returned = reported
    assert gone == "microphone default: gives no more sound; waiting for it to come back"
    assert returned.startswith("microphone default: is back after ")


def test_blocks_that_are_not_read_are_dropped_and_counted(plug):
    reported = []
    with Microphone(tell=reported.append, queue_s=0.1) as microphone:
        deadline = time.monotonic() + 10.0
        while microphone.overruns < 3:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        hear(microphone, 0.3)
        assert microphone.overruns >= 3
    assert reported == [
        "microphone default: dropped samples: this computer is too slow; "
        "the total follows at the end"
    ]


def test_devices_are_found_by_id_and_part_of_the_name(plug):
    known = devices()
    assert sum(device.default for device in known) == 1
    assert find_device() == next(device for device in known if device.default)
    for device in known:
        assert find_device(str(device.id)) == device
    assert find_device("PULS").name == "pulse"
    for unknown in ("99", "no such microphone"):
        with pytest.raises(AudioDeviceError, match=f"--device {unknown}: no device matches: 0 "):
            find_device(unknown)


def test_ambiguous_names_are_errors_unless_one_is_exact(monkeypatch):
    def there(*named):
        known = [Device(i, name, host, 1, 48_000, i == 0) for i, (name, host) in enumerate(named)]
        monkeypatch.setattr(devices_module, "devices", lambda: known)

    there(("USB Mic", "MME"), ("USB Mic 2", "MME"), ("USB Mic", "WASAPI"), ("Webcam", "WASAPI"))
    assert find_device("usb mic").id == 0
    assert find_device("webcam").id == 3
    there(("USB one", "ALSA"), ("USB two", "ALSA"))
    with pytest.raises(AudioDeviceError, match="usb: several devices match: 0 USB one; 1 USB two"):
        find_device("usb")


def test_unsupported_rates_are_errors(plug):
    with pytest.raises(
        AudioDeviceError, match="does not support 767999 Hz; without --rate it is opened"
    ):
        Microphone(rate=767_999)
    with pytest.raises(UsageError, match="--rate 0: 1,000 to 768,000 Hz"):
        Microphone(rate=0)


def opened_by(monkeypatch, refuses):
    """Let PortAudio refuse, with an error's number, what `refuses` gives one for."""
    real = load_portaudio().InputStream

    def input_stream(**options):
        if code := refuses(options):
            raise load_portaudio().PortAudioError("Error opening InputStream", code)
        return real(**options)

    monkeypatch.setattr(load_portaudio(), "InputStream", input_stream)


def test_stereo_devices_are_mixed_down(plug, spoken, monkeypatch):
    path, played = spoken
    opened_by(monkeypatch, lambda options: -9998 if options["channels"] == 1 else None)
    with Microphone() as microphone:
        assert microphone.channels == 2
        player = play(plug, path)
        heard = hear(microphone, len(played) / RATE + 1.0)
    player.join()
    assert correlation(heard, played) > 0.95


def test_the_channels_up_to_the_wanted_one_are_opened(plug, monkeypatch):
    counts = []
    opened_by(monkeypatch, lambda options: counts.append(options["channels"]))
    with Microphone(channel=2) as microphone:
        assert microphone.channels == 2
    assert counts == [2]
    with pytest.raises(AudioDeviceError, match=r"--channel 9000: microphone .* has \d+ channels"):
        Microphone(channel=9_000)


def test_another_rate_is_tried_if_a_device_refuses_its_own(plug, monkeypatch):
    own = find_device().rate
    opened_by(monkeypatch, lambda options: -9997 if options["samplerate"] == own else None)
    with Microphone() as microphone:
        assert microphone.rate != own


@pytest.mark.parametrize(
    ("code", "message"), [(-9985, "is busy"), (-9996, "is no longer an input device")]
)
def test_reasons_for_unusable_devices_are_named(plug, monkeypatch, code, message):
    opened_by(monkeypatch, lambda options: code)
    with pytest.raises(AudioDeviceError, match=rf"microphone \d \(default\) {message}"):
        Microphone()


def test_the_devices_verb_lists_and_tests(plug, capsys):
    assert main(["devices"]) == 0
    assert "default (default)" in capsys.readouterr().out
    assert main(["devices", "--device", "default", "--test", "--seconds", "0.2", "--json"]) == 0
    (reported,) = json.loads(capsys.readouterr().out)["devices"]
    assert {44_100, 48_000} <= set(reported["rates"])
    assert reported["test"]["verdict"] == "silent"


def run(code, **environment):
    """Exit code and stderr of a fresh Python."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment
    )
    return done.returncode, done.stderr


def test_help_is_given_without_portaudio():
    code = (
        "import ctypes.util, sys; ctypes.util.find_library = lambda name: None\n"
        "from speechgru.cli import main; sys.exit(main(['devices']))"
    )
    exit_code, message = run(code)
    assert exit_code == 3
    assert "PortAudio is not installed" in message
    assert "libportaudio2" in message or sys.platform != "linux"


def portaudio_sees_hardware(environment):
    code = "import sounddevice, sys; sys.exit(bool(sounddevice.query_devices()))"
    return run(code, **environment)[0] != 0


def test_help_is_given_without_a_microphone(tmp_path):
    code = "import sys; from speechgru.cli import main; sys.exit(main(['devices']))"
    nowhere = {"XDG_RUNTIME_DIR": str(tmp_path), "PULSE_SERVER": f"unix:{tmp_path}/none"}
    if portaudio_sees_hardware(nowhere):
        pytest.skip("this machine has a microphone")
    exit_code, message = run(code, **nowhere)
    assert exit_code == 3
    assert message.startswith("error: no microphone was found")
