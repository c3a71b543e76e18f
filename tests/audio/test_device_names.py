"""Devices that are plugged in again: other ids and card numbers, the same microphone."""

import numpy as np
import pytest

from speechgru.audio import devices as devices_module
from speechgru.audio import microphone as microphone_module
from speechgru.audio.devices import Device, find_again
from speechgru.audio.microphone import Captured, Microphone
from speechgru.errors import AudioDeviceError


def device(number, name, host="ALSA", default=False):
    return Device(number, name, host, channels=1, rate=48_000, default=default)


@pytest.fixture
def present(monkeypatch):
    """Sets the devices that there are."""

    def set_devices(*found):
        for module in (devices_module, microphone_module):
            monkeypatch.setattr(module, "devices", lambda: list(found))

    return set_devices


USB = "USB Audio Device: - (hw:{},0)"
HDA = device(0, "HDA Intel (hw:0,0)")


def test_a_microphone_is_found_under_another_card_number(present):
    gone, back = device(1, USB.format(1)), device(3, USB.format(2))
    elsewhere = device(4, USB.format(2), "JACK")
    present(HDA, elsewhere, back)
    assert find_again(gone, [HDA, gone, device(2, USB.format(1), "JACK")]) == back


@pytest.mark.parametrize("names", [(USB.format(1), USB.format(2)), ("USB mic", "USB mic")])
def test_another_one_of_its_kind_is_not_taken_for_it(present, names):
    """Neither while it is away nor when it is back, whatever its number then."""
    first, second = device(1, names[0]), device(2, names[1])
    for gone, other in ((first, second), (second, first)):
        present(HDA, device(1, other.name))
        with pytest.raises(AudioDeviceError, match="is not there"):
            find_again(gone, [HDA, first, second])
        present(HDA, first, second)
        assert find_again(gone, [HDA, first, second]) == gone
    present(HDA, device(1, names[1]), device(5, names[0].replace("hw:1", "hw:3")))
    assert find_again(first, [HDA, first, second]).id == 5


class Stream:
    """An open device that gives one block."""

    rate, channels, overruns = 48_000, 1, 0

    def __init__(self, *_):
        self._blocks = [Captured(np.zeros((320, 1), np.float32), 48_000, 0.0)]

    def get(self):
        return self._blocks.pop() if self._blocks else None

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

    blocks = Microphone(wanted, tell=tell).blocks()
    assert next(blocks).lost == 0
    with pytest.raises(KeyboardInterrupt):
        next(blocks)
    assert sentences[0].startswith("microphone Desk mic: gives no more sound")
    assert sentences[1].startswith(said)


def test_what_comes_after_a_pause_is_not_joined_to_what_was_before(present, monkeypatch):
    monkeypatch.setattr(microphone_module, "_Stream", Stream)
    monkeypatch.setattr(microphone_module, "restart_portaudio", lambda: None)
    present(HDA)
    blocks = Microphone("HDA").blocks()
    assert [next(blocks).lost for _ in range(3)] == [0, 1, 1]
