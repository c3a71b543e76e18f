"""Wyoming, with the package's own client and with the exchange that Home Assistant makes."""

import asyncio
import socket
from contextlib import suppress

import numpy as np
import pytest
import soxr
from servers import eventually, own_events, running, words_in_noise
from wyoming.audio import AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.info import Describe, Info
from wyoming.ping import Ping, Pong
from wyoming.wake import Detect, Detection, NotDetected
from wyoming_clients import chunks, connected, header, received, send

from speechgru.serve.limits import Limits
from speechgru.serve.wyoming import WyomingSession

LIMITS = Limits(clients=4)
IMPATIENT = Limits(idle_s=1.0, hello_s=0.5)


def client_of(server):
    return AsyncTcpClient(server.address.host, server.address.port, 30, 60)


async def exchange(server, events, until=NotDetected):
    """Send it all, and read to a message of that kind or the end."""
    found = []
    async with client_of(server) as client:
        for event in events:
            await client.write_event(event)
        while (event := await client.read_event()) is not None:
            found.append(event)
            if until.is_type(event.type):
                break
    return found


def detections(events):
    return [Detection.from_event(event) for event in events if Detection.is_type(event.type)]


async def heard(server, content, names=None, rate=16_000, width=2, channels=1, start_ms=0):
    """All detections of a recording; a second one without words says when the first is over."""
    start = AudioStart(rate, width, channels).event()
    events = [
        Detect(names=names).event(),
        start,
        *chunks(content, rate, width, channels, start_ms=start_ms),
    ]
    events += [AudioStop().event(), start, AudioStop().event()]
    return detections(await exchange(server, events))


def test_describe(server):
    async def describe():
        return await exchange(server, [Describe().event()], until=Info)

    info = Info.from_event(asyncio.run(describe())[-1])
    program = info.wake[0]
    words = server.service.default.words
    assert [model.name for model in program.models] == list(words)
    assert all(model.installed and model.phrase == model.name for model in program.models)


def test_detections_are_the_events_of_listen(server):
    found = asyncio.run(heard(server, words_in_noise().tobytes()))
    expected = [(event["word"], round(1000 * event["t"])) for event in own_events()]
    assert [(one.name, one.timestamp) for one in found] == expected


def test_only_the_words_that_were_asked_for(server):
    found = asyncio.run(heard(server, words_in_noise().tobytes(), ["stop"]))
    expected = [event["word"] for event in own_events() if event["word"] == "stop"]
    assert expected
    assert [one.name for one in found] == expected


@pytest.mark.parametrize(
    ("rate", "width", "channels"), [(8_000, 2, 1), (48_000, 4, 2), (44_100, 3, 1), (22_050, 2, 2)]
)
def test_any_rate_width_and_number_of_channels(server, rate, width, channels):
    samples = soxr.resample(words_in_noise() / 32768.0, 16_000, rate)
    whole = np.rint(np.clip(samples, -1, 1) * (2 ** (8 * width - 1) - 1)).astype("<i4")
    content = np.repeat(whole, channels).view(np.uint8).reshape(-1, 4)[:, :width].tobytes()
    found = asyncio.run(heard(server, content, rate=rate, width=width, channels=channels))
    assert found
    if rate > 16_000:  # nothing of the model's band is lost
        words = [event["word"] for event in own_events()]
        assert [one.name for one in found] == words


@pytest.mark.parametrize("start_ms", [float("nan"), float("inf")])
def test_a_time_that_is_no_number_counts_as_none(server, start_ms):
    found = asyncio.run(heard(server, words_in_noise().tobytes(), start_ms=start_ms))
    assert [one.timestamp for one in found] == [round(1000 * event["t"]) for event in own_events()]


def test_a_start_without_a_stop_ends_the_stream_before_it(server):
    """A client that was restarted may not have said that its last sound has stopped."""
    start = AudioStart(16_000, 2, 1).event()
    content = words_in_noise().tobytes()
    events = [Detect().event(), start, *chunks(content), start, AudioStop().event()]
    found = asyncio.run(exchange(server, events))
    assert [one.name for one in detections(found)] == [event["word"] for event in own_events()]


def test_other_words_are_wanted_from_there_on(server):
    """Also within a stream: a client need not begin another, and may never do."""
    start, stop = AudioStart(16_000, 2, 1).event(), AudioStop().event()
    sound = list(chunks(words_in_noise().tobytes()))
    wanted = [event["word"] for event in own_events() if event["word"] == "stop"]
    assert wanted
    other = [Detect(names=["stop"]).event()]
    events = [Detect().event(), start, *sound[:3], *other, *sound[3:], stop, start, *sound, stop]
    found = detections(
        asyncio.run(exchange(server, [*events, Ping(text="end").event()], until=Pong))
    )
    assert [one.name for one in found] == wanted * 2


def test_not_detected_after_a_stream_without_a_word(server):
    silence = np.zeros(32_000, np.int16).tobytes()
    events = [Detect().event(), AudioStart(16_000, 2, 1).event(), *chunks(silence)]
    found = asyncio.run(exchange(server, [*events, AudioStop().event()]))
    assert [event.type for event in found] == ["not-detected"]


def test_several_streams_on_one_connection_and_a_ping(server):
    async def both():
        content = words_in_noise().tobytes()
        one = [AudioStart(16_000, 2, 1).event(), *chunks(content), AudioStop().event()]
        return await exchange(server, [*one, *one, Ping(text="there?").event()], until=Pong)

    found = asyncio.run(both())
    words = [event["word"] for event in own_events()]
    assert [one.name for one in detections(found)] == words * 2
    assert Pong.from_event(found[-1]).text == "there?"


def test_the_exchange_of_home_assistant(server):
    """Detect one wake word, stream until it comes, and go without a word."""

    async def assist(wake_word):
        async with client_of(server) as client:
            await client.write_event(Detect(names=[wake_word]).event())
            await client.write_event(AudioStart(rate=16_000, width=2, channels=1).event())
            waiting = chunks(words_in_noise().tobytes(), start_ms=5_000)
            reading = asyncio.create_task(client.read_event())
            while not reading.done():
                chunk = next(waiting, None)
                if chunk is None:
                    break
                await client.write_event(chunk)
                await asyncio.sleep(0.001)
            event = await asyncio.wait_for(reading, 60)
            return Detection.from_event(event)

    first = next(event for event in own_events() if event["word"] == "stop")
    detection = asyncio.run(assist("stop"))
    assert detection.name == "stop"
    assert detection.timestamp == pytest.approx(5_000 + 1000 * first["t"], abs=2)


@pytest.mark.parametrize(("speech", "seldom"), [(False, True), (True, False)])
def test_silence_is_read_less_often(server, monkeypatch, speech, seldom):
    """Whoever begins to speak is heard in time: what follows is read as often as ever."""
    waits, pauses = [], []
    wait, pause = WyomingSession._resumed_within, WyomingSession._pause

    async def counted_wait(session, seconds):
        waits.append(seconds)
        await wait(session, seconds)

    async def counted_pause(session):
        pauses.append(session)
        await pause(session)

    monkeypatch.setattr(WyomingSession, "_resumed_within", counted_wait)
    monkeypatch.setattr(WyomingSession, "_pause", counted_pause)
    word = words_in_noise()[10_240:17_920]
    sound = np.tile(word, 3) if speech else np.zeros(16_000, np.int16)

    async def in_real_time():
        async with client_of(server) as client:
            await client.write_event(AudioStart(16_000, 2, 1).event())
            for chunk in chunks(sound.tobytes(), ms=20):
                await client.write_event(chunk)
                await asyncio.sleep(0.02)
            await client.write_event(AudioStop().event())
            while (event := await client.read_event()) is not None:
                if NotDetected.is_type(event.type) or speech:
                    break

    asyncio.run(in_real_time())
    assert len(pauses) >= 2
    assert (len(waits) > len(pauses)) == seldom


def test_pauses_do_not_hold_up_much_sound(server, monkeypatch):
    """What arrives while reading pauses may be more than one read takes."""
    waited_s = []
    wait = WyomingSession._resumed_within

    async def counted(session, seconds):
        waited_s.append(seconds)
        await wait(session, seconds)

    monkeypatch.setattr(WyomingSession, "_resumed_within", counted)
    content = np.zeros((48_000, 2), np.int32).tobytes()
    asyncio.run(heard(server, content, rate=48_000, width=4, channels=2))
    assert sum(waited_s) < 0.7  # of a second of sound


def test_who_only_stops_sending_still_gets_the_last_word(server):
    """As from a file that is piped into the connection, without `audio-stop`."""
    last = own_events()[-1]
    content = words_in_noise()[: round(16_000 * last["t"]) + 320].tobytes()
    with connected(server) as client:
        send(client, AudioStart(16_000, 2, 1).event(), *chunks(content))
        client.shutdown(socket.SHUT_WR)
        answer = received(client)
    assert answer.count(b'"detection"') == len(own_events())
    with connected(server) as client:
        send(client, *chunks(bytes(960)))
        client.shutdown(socket.SHUT_WR)
        assert b'"not-detected"' in received(client)


def test_no_pause_without_a_stream(server, monkeypatch):
    """What follows a stream is answered at once."""
    pauses = []

    async def counted(session):
        pauses.append(session)

    monkeypatch.setattr(WyomingSession, "_pause", counted)
    start, stop = AudioStart(16_000, 2, 1).event(), AudioStop().event()
    with connected(server) as client:
        send(client, start, *chunks(bytes(960)), stop, Ping().event())
        received(client, until=b'"pong"')
    assert pauses == []


def test_sound_for_an_unknown_wake_word_is_sound_too(server):
    """Who sends it is told that there is no such word, but not that there is no sound."""
    with connected(server) as client:
        send(client, Detect(names=["nabu"]).event())
        received(client, until=b"nabu")
        (session,) = server.service.sessions
        session.last_sound_s = 0.0
        send(client, *chunks(bytes(960)), Ping().event())
        received(client, until=b'"pong"')
        assert session.last_sound_s > 0


def test_an_unknown_wake_word_is_answered_with_an_error(server):
    found = asyncio.run(exchange(server, [Detect(names=["nabu"]).event()], until=Error))
    assert "nabu" in Error.from_event(found[-1]).text


@pytest.mark.parametrize(
    ("field", "value"), [("rate", 0), ("rate", "16000"), ("channels", 0), ("width", 5)]
)
def test_the_field_of_a_chunk_that_makes_no_sense_is_named(server, field, value):
    data = {"rate": 16_000, "width": 2, "channels": 1} | {field: value}
    answer = raw(server, header(type="audio-chunk", data=data))
    assert f"{field} {value!r}: ".encode() in answer.replace(b"\\", b"")


def raw(server, content, wait_s=60.0):
    """Send bytes; what comes back until the server closes."""
    with connected(server, wait_s) as sock:
        with suppress(ConnectionError):
            sock.sendall(content)
        return received(sock)


@pytest.mark.parametrize(
    "content",
    [
        b"{garbage\n",
        b"{}\n",
        b'{"type": "audio-chunk"}\n',
        header(type="audio-chunk", data={"rate": 0, "width": 2, "channels": 1}),
        header(type="audio-chunk", data={"rate": 16000, "width": 9, "channels": 1}),
        header(type="audio-chunk", data={"rate": "x", "width": 2, "channels": 1}),
        header(type="detect", data={"names": 5}),
        header(type="x", data_length="five"),
        header(type="x", payload_length=2**40),
        header(type="x", payload_length=100) + b"ten bytes.",
        b"{" + b"a" * 200_000,
        b"\x16\x03\x01 no TLS here",
    ],
)
def test_garbage_ends_its_own_connection_only(impatient, content):
    raw(impatient, content)
    found = asyncio.run(exchange(impatient, [Ping(text="still there").event()], until=Pong))
    assert Pong.from_event(found[-1]).text == "still there"


def test_who_says_nothing_is_closed(impatient):
    refused = impatient.service.metrics.refused["silent"]
    assert raw(impatient, b"") == b""
    assert eventually(lambda: impatient.service.metrics.refused["silent"] > refused)


def test_who_sends_no_sound_is_told_why(impatient):
    async def idle():
        return await exchange(impatient, [Detect().event()], until=Error)

    found = asyncio.run(idle())
    assert "no sound" in Error.from_event(found[-1]).text


def test_too_many_clients_are_told_so(server):
    async def crowd():
        clients = [client_of(server) for _ in range(LIMITS.clients)]
        for client in clients:
            await client.connect()
            await client.write_event(Ping().event())
            await client.read_event()
        found = await exchange(server, [Ping().event()], until=Error)
        for client in clients:
            await client.disconnect()
        return found

    assert "too many" in Error.from_event(asyncio.run(crowd())[-1]).text


def test_two_models_have_wake_words_of_their_own():
    from speechgru.modelfile.bundled import MODEL

    with running([str(MODEL), f"second={MODEL}"], limits=LIMITS) as server:
        found = asyncio.run(heard(server, words_in_noise().tobytes(), ["second.stop", "go"]))
    words = {"stop": "second.stop", "go": "go"}
    expected = [words[event["word"]] for event in own_events() if event["word"] in words]
    assert sorted(one.name for one in found) == sorted(expected)
