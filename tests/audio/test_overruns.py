"""Samples that a microphone dropped: how many, and where in the stream."""

from types import SimpleNamespace

import numpy as np
import pytest

from speechgru.audio.devices import Device
from speechgru.audio.microphone import Captured, Microphone, _Stream
from speechgru.audio.sources import microphone_blocks


class Driver(_Stream):
    """A stream whose blocks the test gives, at the times of a driver's clock."""

    def _open(self, device, rates, least):
        self.rate = 16_000
        return None, 16_000, 1

    def block(self, start_s, overflow=False, length=320):
        when = SimpleNamespace(inputBufferAdcTime=start_s)
        status = SimpleNamespace(input_overflow=overflow)
        self._on_block(np.full((length, 1), 0.1, np.float32), length, when, status)


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setattr("speechgru.audio.microphone.load_portaudio", lambda: None)
    return Driver(Device(0, "a microphone", "none", 1, 16_000, True), None, queue_s=0.1)


def captured(driver):
    return [driver._queue.get_nowait() for _ in range(driver._queue.qsize())]


def test_the_drivers_clock_says_how_much_it_dropped(driver):
    driver.block(10.0)
    driver.block(10.02 + 0.05, overflow=True)
    driver.block(10.02 + 0.07)
    assert [one.lost for one in captured(driver)] == [0, 800, 0]
    assert driver.overruns == 1


@pytest.mark.parametrize("start_s", [0.0, 9.0])
def test_a_clock_that_cannot_be_right_is_not_believed(driver, start_s):
    driver.block(10.0)
    driver.block(start_s, overflow=True)
    assert [one.lost for one in captured(driver)] == [0, 0]


def test_blocks_that_the_listener_had_no_room_for_are_counted_before_the_next(driver):
    for i in range(8):  # there is room for 5
        driver.block(10 + 0.02 * i)
    assert [one.lost for one in captured(driver)] == [0] * 5
    driver.block(10.16)
    driver.block(10.18)
    assert [one.lost for one in captured(driver)] == [3 * 320, 0]
    assert driver.overruns == 3


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_the_stream_of_a_microphone_has_its_gaps_in_their_places(rate):
    second = np.full((rate, 1), 0.1, np.float32)
    pieces = [Captured(second, rate, 11.0), Captured(second, rate, 12.5, lost=rate // 2)]
    microphone = SimpleNamespace(
        blocks=lambda: iter(pieces), device=SimpleNamespace(name="a microphone")
    )
    blocks = list(microphone_blocks(microphone, 16_000))
    place, gaps = 0, []
    for block in blocks:
        if block.lost:
            gaps.append((place, block.lost))
        place += block.lost + len(block.samples)
    assert gaps == [(16_000, 8_000)]
    assert {block.start_clock_s for block in blocks} == {10.0}


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_a_gap_of_a_sample_is_one(rate):
    """As of a microphone that was unplugged: what comes then is not joined to what was before."""
    piece = np.full((rate, 1), 0.1, np.float32)
    pieces = [Captured(piece, rate, 11.0), Captured(piece, rate, 12.0, lost=1)]
    microphone = SimpleNamespace(
        blocks=lambda: iter(pieces), device=SimpleNamespace(name="a microphone")
    )
    assert sum(block.lost for block in microphone_blocks(microphone, 16_000)) == 1


def test_samples_that_are_not_finite_are_lost_ones(monkeypatch):
    """What follows them is processed, at its own time, and the user is told once."""
    rate, told = 16_000, []
    blocks = [np.full((320, 1), level, np.float32) for level in (0.1, np.nan, np.inf, 0.2)]
    stream = SimpleNamespace(
        rate=rate,
        overruns=0,
        get=iter([*(Captured(frames, rate, 11.0) for frames in blocks), None]).__next__,
    )
    device = Device(0, "broken", "test", 1, rate, True)
    monkeypatch.setattr("speechgru.audio.microphone.find_device", lambda _: device)
    monkeypatch.setattr("speechgru.audio.microphone._Stream", lambda *_: stream)
    microphone = Microphone(tell=told.append)
    found = [(len(c.frames), c.lost) for c in microphone._until_gone()]
    assert found == [(320, 0), (0, 320), (0, 320), (320, 0)]
    assert told == ["microphone broken: gives samples that are not finite; they count as lost"]
