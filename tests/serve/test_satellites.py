"""What clients do for days on one connection: pause, want other words, get other thresholds."""

import asyncio
import json
from types import SimpleNamespace

import httpx
import numpy as np
import pytest
from servers import own_events, running, words_in_noise
from websocket_clients import events, messages
from websockets.sync.client import connect
from wyoming.audio import AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected
from wyoming_clients import chunks

from speechgru.serve.access import Address
from speechgru.serve.discovery import Announcement
from speechgru.serve.limits import Limits
from speechgru.serve.service import Service
from speechgru.serve.wyoming_clock import ClientClock

LIMITS = Limits()
START, STOP = AudioStart(16_000, 2, 1).event(), AudioStop().event()


async def until(client, kind):
    """Read to a message of this kind: the detections before it, and it."""
    found = []
    while (event := await asyncio.wait_for(client.read_event(), 60)) is not None:
        if kind.is_type(event.type):
            return found, event
        if Detection.is_type(event.type):
            found.append(Detection.from_event(event))
    raise AssertionError("the server closed the connection")


def exchange(server, scenario):
    async def run():
        address = server.address
        async with AsyncTcpClient(address.host, address.port, 30, 60) as client:
            return await scenario(client)

    return asyncio.run(run())


def halves():
    """The words, in two, with a silence between in which none is cut."""
    words = words_in_noise()
    events = own_events()
    middle = round(16_000 * (events[2]["t"] + events[3]["start"]) / 2)
    return words[:middle].tobytes(), words[middle:].tobytes(), 3


def test_kept_thresholds_reach_a_stream_that_is_running():
    """Those of a satellite that has streamed for days."""

    async def scenario(client):
        first, second, _ = halves()
        for event in (START, *chunks(first), Ping().event()):
            await client.write_event(event)
        before, _ = await until(client, Pong)
        words = server.service.default.words
        url = f"{server.url}/models/{server.service.default.name}/thresholds"
        answer = await asyncio.to_thread(httpx.put, url, json=dict.fromkeys(words, 1.0))
        assert answer.is_success
        silence = np.zeros(16_000, np.int16).tobytes()
        for event in (*chunks(second), *chunks(silence), STOP, START, STOP):
            await client.write_event(event)
        after, _ = await until(client, NotDetected)
        return before + after

    with running() as server:
        found = exchange(server, scenario)
    assert [one.name for one in found] == [event["word"] for event in own_events()[: halves()[2]]]


@pytest.mark.parametrize("own", ["{}", '{"threshold": 0.9}'])
def test_thresholds_taken_back_are_the_models_again(own):
    """Also those that it gets later."""
    first, second, _ = halves()
    with running() as server, connect(server.socket) as client:
        client.send('{"type": "thresholds", "threshold": 0.9}')
        client.send(json.dumps({"type": "thresholds", **json.loads(own)}))
        assert json.loads(client.recv())["type"] == "ready"
        words = server.service.default.words
        url = f"{server.url}/models/{server.service.default.name}/thresholds"
        assert httpx.put(url, json=dict.fromkeys(words, 1.0)).is_success
        client.send(first + second)
        client.send('{"type": "end"}')
        found = events(messages(client)[0])
    assert bool(found) == (own != "{}")


def test_timestamps_go_on_after_a_pause(server):
    """The sound after it has the client's time, not that of the sound received."""

    async def scenario(client):
        first, second, _ = halves()
        length_ms = len(first) // 32
        late = chunks(second, start_ms=length_ms + 90_000)
        for event in (START, *chunks(first), *late, STOP, START, STOP):
            await client.write_event(event)
        return (await until(client, NotDetected))[0]

    found = exchange(server, scenario)
    count = halves()[2]
    moments = [1000 * e["t"] + 90_000 * (number >= count) for number, e in enumerate(own_events())]
    assert [one.timestamp for one in found] == [pytest.approx(moment, abs=2) for moment in moments]


@pytest.mark.parametrize("timestamps", [[0, 0, 0], [None, "soon", float("nan")], [5, 4, 3]])
def test_times_that_do_not_go_on_are_no_pauses(timestamps):
    clock = ClientClock()
    for second, timestamp in enumerate(timestamps):
        clock.note(float(second), timestamp)
    begun = timestamps[0] or 0
    assert clock.moment_ms(2.5) == begun + 2500


@pytest.mark.parametrize("stalled_ms", [600, 2000, 10_000])
def test_sound_that_waited_and_comes_at_once_was_no_pause(stalled_ms):
    """What is sent late has the time of sending; after it, sending is as timely as before."""
    clock = ClientClock()
    for place_ms in range(0, 60_000, 10):
        is_late = 30_000 < place_ms < 30_000 + stalled_ms
        clock.note(place_ms / 1000, 30_000 + stalled_ms if is_late else place_ms)
    assert [clock.moment_ms(s) for s in (10.0, 30.2, 50.0)] == pytest.approx([1e4, 30_200, 5e4])


def test_a_stall_leaves_the_pause_before_it():
    clock = ClientClock()
    for place_ms in range(0, 60_000, 10):
        paused_ms = 90_000 * (place_ms > 20_000)
        is_late = 40_000 < place_ms < 42_000
        clock.note(place_ms / 1000, paused_ms + (42_000 if is_late else place_ms))
    found = [clock.moment_ms(s) for s in (10.0, 30.0, 41.0, 50.0)]
    assert found == pytest.approx([1e4, 120_000, 131_000, 140_000])


def test_the_last_pauses_of_many_are_remembered():
    clock = ClientClock()
    for pause in range(20):
        for place_ms in range(0, 1000, 10):
            clock.note(pause + place_ms / 1000, 5000 * pause + place_ms)
        known = range(max(0, pause - 7), pause + 1)
        moments = [clock.moment_ms(number + 0.5) for number in known]
        assert moments == [5000 * number + 500 for number in known]


def test_words_before_a_detect_are_still_reported(server):
    """Though they are recognized after it: it holds for the sound that follows."""

    async def scenario(client):
        first, second, _ = halves()
        last = [Detect(names=["stop"]).event(), *chunks(second), STOP, START, STOP]
        for event in (START, *chunks(first), *last):
            await client.write_event(event)
        return (await until(client, NotDetected))[0]

    found = [one.name for one in exchange(server, scenario)]
    words = [event["word"] for event in own_events()]
    count = halves()[2]
    assert found == words[:count] + [word for word in words[count:] if word == "stop"]
    assert set(words[:count]) - {"stop"}


@pytest.mark.parametrize(("idle_s", "patience_s"), [(60.0, 3600.0), (7200.0, 7200.0)])
def test_a_pause_may_be_as_long_as_the_idle_timeout(idle_s, patience_s):
    service = Service({}, Limits(idle_s=idle_s))
    session = SimpleNamespace(may_pause=True)
    assert service._patience_s(session) == patience_s
    session.may_pause = False
    assert service._patience_s(session) == idle_s


def test_a_client_that_has_sent_sound_may_pause():
    limits = Limits(idle_s=0.5, hello_s=30.0)

    async def scenario(client):
        for event in (Detect().event(), START, *chunks(bytes(3200)), Ping().event()):
            await client.write_event(event)
        await until(client, Pong)
        await asyncio.sleep(2.0)
        await client.write_event(Ping(text="back").event())
        return Pong.from_event((await until(client, Pong))[1]).text

    with running(limits=limits) as server:
        assert exchange(server, scenario) == "back"


def test_a_name_in_place_of_names_is_refused(server):
    async def scenario(client):
        event = Detect().event()
        event.data["names"] = "go"
        await client.write_event(event)
        return Error.from_event((await until(client, Error))[1]).text

    assert "a list of wake words is needed" in exchange(server, scenario)


def test_each_server_is_announced_by_a_name_of_its_own(monkeypatch):
    """Home Assistant takes two with one name for one."""
    names = []

    class Announced:
        def __init__(self, port, name, host):
            names.append(name)

        async def register_server(self):
            raise OSError("no network")

    zeroconf = pytest.importorskip("wyoming.zeroconf")
    monkeypatch.setattr(zeroconf, "HomeAssistantZeroconf", Announced)

    async def announce(machine, port):
        monkeypatch.setattr("uuid.getnode", lambda: machine)
        await Announcement([Address("192.0.2.7", port)], lambda reason: None).__aenter__()

    for machine, port in ((1, 10_400), (1, 10_401), (2, 10_400)):
        asyncio.run(announce(machine, port))
    assert len(set(names)) == 3
    assert all(name.startswith("speechgru-") for name in names)
