"""The WebSocket front door, with the client of `websockets`."""

import io
import json
import socket
import threading
import time
from contextlib import ExitStack, suppress

import httpx
import numpy as np
import pytest
import soundfile
from servers import (
    eventually,
    own_events,
    running,
    without_latency,
    words_in_noise,
)
from websocket_clients import events, messages, upgraded
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect

from speechgru.modelfile.bundled import MODEL
from speechgru.serve import front_door
from speechgru.serve.access import Access, Address
from speechgru.serve.limits import Limits
from speechgru.serve.server import ServerOptions
from speechgru.serve.socket_protocol import SocketProtocol

LIMITS = Limits(clients=6, message_bytes=200_000, unsent_bytes=50_000)
IMPATIENT = Limits(idle_s=1.0, hello_s=1.0)


def heard(url, content, size=640, first=None):
    with connect(url) as client:
        if first is not None:
            client.send(json.dumps(first))
        with suppress(ConnectionClosed):  # the server may refuse what it has so far
            for start in range(0, len(content), size):
                client.send(content[start : start + size])
            client.send('{"type": "end"}')
        return messages(client)


@pytest.mark.parametrize("size", [640, 77, 150_000])
def test_events_are_those_of_listen(server, size):
    found, code, _ = heard(server.socket, words_in_noise().tobytes(), size)
    assert events(found) == own_events()
    assert found[0]["type"] == "ready"
    assert found[0]["words"] == list(server.service.default.words)
    assert found[-1]["type"] == "end"
    assert code == 1000


def test_a_client_at_both_ports_from_one_port_of_its_own():
    options = ServerOptions(Address("127.0.0.1", 0), Access(), wyoming=Address("127.0.0.1", 0))
    with running(options=options) as server, ExitStack() as both:
        first, second = (both.enter_context(socket.socket()) for _ in range(2))
        for sock in (first, second):
            sock.settimeout(60)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        first.connect((server.address.host, server.address.port))
        second.bind(first.getsockname())
        second.connect((server.wyoming[-1].host, server.wyoming[-1].port))
        second.sendall(b'{"type": "ping"}\n')
        assert second.recv(1) == b"{"
        upgraded(server, "/listen", raw=first)
        first.sendall(Frame(Opcode.BINARY, bytes(640)).serialize(mask=True))
        assert b'"ready"' in first.recv(1000)


def test_rate_and_format_in_the_query_or_in_the_first_message(server):
    content = np.repeat(words_in_noise().astype("<f4") / 32768, 2).tobytes()
    told = {"format": "f32le", "channels": 2, "rate": 16_000}
    query = "&".join(f"{name}={value}" for name, value in told.items())
    by_query, *_ = heard(f"{server.socket}?{query}", content, 5_000)
    by_message, *_ = heard(server.socket, content, 5_000, {"type": "start", **told})
    assert events(by_query) == events(by_message) == own_events()


def test_a_model_whose_name_is_a_number_is_chosen_by_it():
    with running([str(MODEL), f"1={MODEL}"], limits=LIMITS) as server:
        by_query, *_ = heard(f"{server.socket}?model=1", b"")
        by_message, *_ = heard(server.socket, b"", first={"type": "start", "model": "1"})
        in_quotes, *_ = heard(f'{server.socket}?model="1"', b"")
    assert by_query[0]["model"] == by_message[0]["model"] == in_quotes[0]["model"] == "1"


def test_posteriors_and_near_misses_on_request(server):
    url = f"{server.socket}?posteriors=5&near_misses=1&threshold=0.99"
    found, *_ = heard(url, words_in_noise().tobytes(), 6_400)
    posteriors = [message for message in found if message.get("type") == "posteriors"]
    misses = [message for message in found if message.get("type") == "near_miss"]
    assert len(posteriors) == len(words_in_noise()) // (5 * 320)
    assert sum(posteriors[3]["values"]) == pytest.approx(1, abs=0.01)
    assert {miss["word"] for miss in misses} <= set(server.service.default.words)
    assert misses
    assert misses[0]["gate"] == "threshold"
    assert events(found) == []


def test_thresholds_change_within_a_stream(server):
    content = words_in_noise().tobytes()
    with connect(server.socket) as client:
        client.send('{"type": "thresholds", "threshold": 1.0}')
        client.send(content[:100_000])
        client.send('{"type": "thresholds", "threshold": 0.5}')
        client.send(content[100_000:])
        client.send('{"type": "end"}')
        found, *_ = messages(client)
    assert events(found)
    assert all(event["t"] > 100_000 / 32_000 for event in events(found))


def test_a_word_during_which_thresholds_change_is_one_event(server):
    content = words_in_noise().tobytes()
    url = f"{server.socket}?threshold=0.2"
    expected = events(heard(url, content, 100_000)[0])
    place = 2 * round(16_000 * expected[0]["t"])
    with connect(url) as client:
        client.send(content[:place])
        client.send('{"type": "thresholds", "threshold": 0.2}')
        client.send(content[place:])
        client.send('{"type": "end"}')
        found, *_ = messages(client)
    assert events(found) == expected


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_time_goes_on_across_lost_samples(server, rate):
    """A second is lost in a pause: the events are those of the whole, at their times."""
    content = np.repeat(words_in_noise(), rate // 16_000)
    pause = np.zeros(rate, np.int16)
    with connect(f"{server.socket}?rate={rate}") as client:
        client.send(content[: 16 * 320].tobytes())
        client.send(json.dumps({"type": "lost", "samples": len(pause)}))
        client.send(content[16 * 320 :].tobytes()[:200_000])
        client.send('{"type": "end"}')
        found, code, _ = messages(client)
    rest = len(content) - 16 * 320
    seconds = 1 + (16 * 320 + min(rest, 100_000)) / rate
    assert code == 1000
    assert found[-1]["t"] == pytest.approx(seconds, abs=0.05)
    assert server.service.metrics.lost_s >= 1.0


def test_messages_that_arrive_together_keep_their_order(server):
    """Sound is taken as it arrives, but never before a message that was sent before it."""
    content = words_in_noise().tobytes()
    chunks = [content[start : start + 640] for start in range(0, len(content), 640)]
    before = len(chunks) // 2
    sent = [Frame(Opcode.BINARY, chunk) for chunk in chunks]
    sent.insert(before, Frame(Opcode.TEXT, b'{"type": "reset"}'))
    sent = [Frame(Opcode.BINARY, chunk) for chunk in chunks[:before]] + sent
    sent.insert(before, Frame(Opcode.TEXT, b'{"type": "reset"}'))
    sent.append(Frame(Opcode.TEXT, b'{"type": "end"}'))
    wire = b"".join(frame.serialize(mask=True) for frame in sent)
    with connect(server.socket) as client:
        client.send(chunks[0])
        assert json.loads(client.recv(timeout=60))["type"] == "ready"
        client.socket.sendall(wire)
        found, *_ = messages(client)
    apart = []
    for part in (chunks[:1] + chunks[:before], chunks[:before], chunks[before:]):
        apart += events(heard(server.socket, b"".join(part))[0])
    assert events(found) == apart
    assert found[-1]["t"] == pytest.approx(0.02 * len(chunks[before:]))


def test_reset_begins_anew(server):
    content = words_in_noise().tobytes()
    with connect(server.socket) as client:
        client.send(content[:100_000])
        client.send('{"type": "reset"}')
        for start in range(0, len(content), 100_000):
            client.send(content[start : start + 100_000])
        client.send('{"type": "end"}')
        found, *_ = messages(client)
    assert events(found)[-len(own_events()) :] == own_events()


def test_nothing_of_the_sound_before_a_reset_is_in_the_stream_after_it(server):
    """Neither the half of a sample nor what is still in the filter."""
    rate = 48_000
    content = np.repeat(words_in_noise(), rate // 16_000).tobytes()
    url = f"{server.socket}?rate={rate}&posteriors=1"
    with connect(url) as client:
        client.send(content[:100_001])
        client.send('{"type": "reset"}')
        client.send(content[:150_000])
        client.send('{"type": "end"}')
        found, *_ = messages(client)
    whole = [without_latency(one) for one in heard(url, content[:150_000], 150_000)[0][1:]]
    assert [without_latency(one) for one in found[-len(whole) :]] == whole


@pytest.mark.parametrize(
    ("message", "told"),
    [
        ("no json", "JSON"),
        ("[1]", "JSON"),
        ('{"type": "start", "rate": 1}', "rate 1"),
        ('{"type": "start", "rate": 16000.5}', "rate"),
        ('{"type": "start", "format": "mp3"}', "mp3"),
        ('{"type": "start", "channels": true}', "channels"),
        ('{"type": "start", "channels": 2, "channel": 3}', "channel 3: a whole number, 1 to 2"),
        ('{"type": "start", "model": "nobody"}', "nobody"),
        ('{"type": "start", "model": [1]}', "model [1]"),
        ('{"type": "start", "format": {}}', "format {}"),
        ('{"type": "start", "colour": 1}', "colour"),
        ('{"type": "start", "posteriors": -1}', "posteriors"),
        ('{"type": "start", "near_misses": "no"}', "near_misses 'no'"),
        ('{"type": "start", "thresholds": [1]}', "thresholds"),
        ('{"type": "start", "thresholds": {"abba": 0.5}}', "abba"),
        ('{"type": "thresholds", "threshold": 2}', "threshold"),
        ('{"type": "lost"}', "lost samples"),
        ('{"type": "lost", "samples": 0}', "lost samples"),
        ('{"type": "lost", "samples": true}', "lost samples"),
        ('{"type": "lost", "samples": 10000000}', "60 s"),
        ('{"type": "dance"}', "dance"),
        ('{"type": "thresholds", "treshold": 0.9}', "'treshold': one of threshold, thresholds"),
        ('{"type": "reset", "x": 1}', "'x': nothing else is needed"),
        ('{"type": "end", "x": 1}', "'x': nothing else is needed"),
        ('{"type": ["reset"]}', "type ['reset']"),
        (b"\xff\xfe", "a text message is not UTF-8"),
    ],
)
def test_a_message_that_makes_no_sense_is_the_reason_of_the_end(server, message, told, caplog):
    with connect(server.socket) as client:
        client.send(message, text=True)
        _, code, reason = messages(client)
    assert caplog.records == []
    assert code == 1007
    assert told in reason


def test_one_channel_of_several_is_used(server):
    words = words_in_noise()
    loud = np.random.default_rng(0).integers(-20_000, 20_000, len(words), np.int16)
    content = np.stack([loud, words, -words], axis=1).tobytes()
    found, *_ = heard(f"{server.socket}?channels=3&channel=2", content, 6_000)
    assert events(found) == own_events()


def as_wav(samples, rate, subtype):
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x1aE\xdf\xa3" + bytes(640), "a WebM or Matroska file; PCM"),
        (b"fLaC" + bytes(640), "a FLAC file; PCM"),
        (as_wav(words_in_noise(), 48_000, "PCM_16"), "a WAV file of s16le, 48000 Hz"),
        (as_wav(words_in_noise(), 16_000, "PCM_24"), "a WAV file of s24le, 16000 Hz"),
        (as_wav(words_in_noise() / 32768, 16_000, "FLOAT"), "a WAV file of f32le, 16000 Hz"),
    ],
)
def test_files_are_not_taken_for_pcm(server, content, told):
    found, code, reason = heard(server.socket, content)
    assert code == 1007
    assert told in reason
    assert events(found) == []


def test_the_header_of_a_wav_file_of_the_same_format_does_no_harm(server):
    found, *_ = heard(server.socket, as_wav(words_in_noise(), 16_000, "PCM_16"))
    assert [event["word"] for event in events(found)] == [e["word"] for e in own_events()]


def test_samples_that_are_no_numbers_end_their_stream(server):
    content = np.full(3_200, np.nan, "<f4").tobytes()
    _, code, reason = heard(f"{server.socket}?format=f32le", content)
    assert code == 1007
    assert "finite" in reason


def test_floats_with_the_values_of_integers_are_refused(server):
    content = words_in_noise().astype("<f4").tobytes()
    _, code, reason = heard(f"{server.socket}?format=f32le", content)
    assert code == 1007
    assert "floats in [-1, 1] are needed; divide 16-bit values by 32768" in reason


def test_an_option_that_is_given_twice_is_refused(server):
    _, code, reason = heard(f"{server.socket}?rate=16000&rate=8000", bytes(320))
    assert (code, reason) == (1007, "'rate': is given more than once")


def test_the_end_of_a_refused_stream_waits_for_nothing_but_the_clients_answer(server):
    sound = Frame(Opcode.BINARY, np.full(160, np.nan, "<f4").tobytes()).serialize(mask=True)
    goodbye = Frame(Opcode.CLOSE, b"\x03\xef").serialize(mask=True)
    with upgraded(server, "/listen?format=f32le") as raw:
        raw.sendall(20 * sound)  # more than its session takes, once it has refused the first
        received = b""
        while b"must be finite" not in received:
            received += raw.recv(1000)
        raw.sendall(sound)
        time.sleep(0.1)  # so that the server reads the answer by itself
        raw.settimeout(5)
        raw.sendall(goodbye)
        assert raw.recv(1000) == b""


def test_too_large_a_message_ends_its_connection(server):
    with connect(server.socket) as client:
        client.send(bytes(LIMITS.message_bytes + 1))
        _, code, _ = messages(client)
    assert code == 1009


def test_who_sends_no_sound_is_told_why(impatient):
    with connect(impatient.socket) as client:
        _, code, reason = messages(client)
    assert (code, reason) == (1008, "no sound for 1 s")


def test_no_ping_whose_answer_waits_behind_sound(server, monkeypatch):
    scheduled = []
    monkeypatch.setattr(
        SocketProtocol, "schedule_ping", lambda protocol: scheduled.append(protocol)
    )
    assert heard(server.socket, bytes(640))[1] == 1000
    assert scheduled == []


def test_who_reads_nothing_is_dropped_and_nobody_waits(server, monkeypatch):
    monkeypatch.setattr(front_door, "SEND_BUFFER_BYTES", 4096)  # full after less sound
    dropped = server.service.metrics.closed["slow"]
    slow = upgraded(server, "/listen?posteriors=1", receive_buffer=4096)
    second = b"\x82\xfe\x7d\x00" + bytes(4) + bytes(32_000)

    def flood():
        try:
            for _ in range(3_000):
                slow.sendall(second)
        except OSError:
            slow.close()

    thread = threading.Thread(target=flood)
    thread.start()
    found, *_ = heard(server.socket, words_in_noise().tobytes(), 6_400)
    assert events(found) == own_events()
    thread.join(120)
    assert not thread.is_alive()
    assert eventually(lambda: server.service.metrics.closed["slow"] > dropped)


def test_too_many_clients_are_told_so(server):
    with ExitStack() as crowd:
        for _ in range(LIMITS.clients):
            crowd.enter_context(connect(server.socket))
        with connect(server.socket) as late:
            _, code, reason = messages(late)
    assert code == 1013
    assert "too many" in reason


def test_health_metrics_and_models(server):
    assert httpx.get(f"{server.url}/health").json()["status"] == "ok"
    heard(server.socket, words_in_noise().tobytes(), 6_400)
    text = httpx.get(f"{server.url}/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(figures["speechgru_sound_seconds_total"]) > 5
    assert int(figures["speechgru_chunk_seconds_count"]) > 250
    assert (
        figures["speechgru_chunk_seconds_count"]
        == (figures['speechgru_chunk_seconds_bucket{le="+Inf"}'])
    )
    assert int(figures['speechgru_events_total{model="commands-12",word="go"}']) >= 3
    (model,) = httpx.get(f"{server.url}/models").json()
    assert model["words"] == list(server.service.default.words)
