"""Devices that are plugged in again: other ids and card numbers, the same microphone."""

import pytest

from speechgru.audio import devices as devices_module
from speechgru.audio import microphone as microphone_module
from speechgru.audio.devices import Device, find_again
from speechgru.audio.microphone import Microphone
from speechgru.errors import AudioDeviceError


def device(number, name, host="ALSA", default=False):
    return Device(number, name, host, channels=1, rate=48_000, default=default)


@pytest.fixture
def present(monkeypatch):
    """Sets the devices that there are."""

    def set_devices(*found):
        monkeypatch.setattr(devices_module, "devices", lambda: list(found))

    return set_devices


def test_a_microphone_is_found_under_another_card_number(present):
    gone = device(1, "USB Audio Device: - (hw:1,0)")
    back = device(3, "USB Audio Device: - (hw:2,0)")
    present(
        device(0, "HDA Intel (hw:0,0)"), back, device(4, "USB Audio Device: - (hw:2,0)", "JACK")
    )
    assert find_again(gone) == back


def test_of_two_with_one_name_the_nearest_is_found(present):
    present(device(1, "USB mic"), device(2, "USB mic"))
    assert find_again(device(2, "USB mic")).id == 2
    assert find_again(device(5, "USB mic")).id == 2


def test_another_microphone_is_not_taken_for_it(present):
    present(device(0, "HDMI capture"))
    with pytest.raises(AudioDeviceError, match="USB mic: is not there"):
        find_again(device(0, "USB mic"))


class Stream:
    """An open device that gives nothing."""

    rate, channels, overruns = 48_000, 1, 0

    def __init__(self, *_):
        pass

    def get(self):
        return None

    def wait(self):
        return True

    def close(self):
        pass


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (None, "microphone Desk mic: is gone; listening to microphone HDMI capture, 48000 Hz"),
        ("desk", "microphone Desk mic: is back after "),
    ],
)
def test_only_a_default_microphone_is_replaced(present, monkeypatch, wanted, said):
    desk, other = device(0, "Desk mic", default=True), device(0, "HDMI capture", default=True)
    tries = []

    def restart():
        tries.append(None)
        present(desk if len(tries) > 5 else other)

    monkeypatch.setattr(microphone_module, "_Stream", Stream)
    monkeypatch.setattr(microphone_module, "_RETRY_S", 0.0)
    monkeypatch.setattr(microphone_module, "_REPLACED_AFTER_S", 0.0)
    monkeypatch.setattr(microphone_module, "restart_portaudio", restart)
    present(desk)
    sentences = []

    def tell(sentence):
        sentences.append(sentence)
        if len(sentences) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(Microphone(wanted, tell=tell).blocks())
    assert sentences[0].startswith("microphone Desk mic: gives no more sound")
    assert sentences[1].startswith(said)
