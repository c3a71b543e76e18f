"""A server that stops: it hears what has arrived, drops what comes later, and waits for nobody."""

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from contextlib import suppress

import pytest
from servers import eventually, own_events, running, slow_to_end, words_in_noise
from websocket_clients import events, messages, upgraded
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.sync.client import connect
from wyoming.audio import AudioChunk, AudioStart
from wyoming_clients import chunks, connected, received, send

from speechgru.modelfile.bundled import MODEL
from speechgru.serve import wyoming
from speechgru.serve.access import Access, Address
from speechgru.serve.limits import Limits
from speechgru.serve.own_words.places import Places
from speechgru.serve.server import ServerOptions
from speechgru.serve.wyoming import WyomingSession


def test_sound_that_arrives_by_websocket_is_dropped(monkeypatch, caplog):
    """It would come after the end of its stream, which has a filter."""
    slow_to_end(monkeypatch)
    with running() as server, connect(f"{server.socket}?rate=48000") as client:
        client.send(bytes(9_600))
        assert eventually(lambda: server.service.streams(server.service.default))
        server.stop()
        with suppress(ConnectionClosed):
            while True:
                client.send(bytes(9_600))
                time.sleep(0.01)
        _, code, reason = messages(client)
    assert (code, reason) == (1001, "the server is stopping")
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("leaves_first", [True, False])
@pytest.mark.parametrize("path", ["/listen", "/own-words/listen"])
def test_a_websocket_that_leaves_is_not_waited_for(
    path, leaves_first, tmp_path, monkeypatch, caplog
):
    if not leaves_first:
        slow_to_end(monkeypatch)
    places = Places(tmp_path / "data", tmp_path / "caught", tmp_path / "runs")
    options = ServerOptions(Address("127.0.0.1", 0), Access(), places=places)
    with running(options=options, limits=Limits(stop_s=50.0)) as server:
        client = upgraded(server, path)
        client.sendall(Frame(Opcode.BINARY, bytes(640)).serialize(mask=True))
        assert b'"ready"' in client.recv(1000)
        if not leaves_first:
            server.stop()
        client.close()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 25
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("names", [["SIGTERM"], ["SIGHUP", "SIGHUP"], ["SIGTERM", "SIGHUP"]])
def test_a_signal_hears_what_was_sent_and_says_goodbye(names):
    """A terminal that is closed may say so twice, and a service manager in two ways."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "speechgru", "serve", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        line = process.stderr.readline()
        address = line.split("http://")[1].strip().strip("/")
        with connect(f"ws://{address}/listen") as client:
            content = words_in_noise().tobytes()
            for start in range(0, len(content), 100_000):
                client.send(content[start : start + 100_000])
            assert client.ping().wait(60)
            for name in names:
                process.send_signal(getattr(signal, name))
                time.sleep(0.01)
            found, code, reason = messages(client)
        rest = process.stderr.read()
        assert process.wait(60) == 0
    assert events(found) == own_events()
    assert (code, reason) == (1001, "the server is stopping")
    assert "Traceback" not in rest


def test_stopping_hears_what_arrived_while_reading_paused(monkeypatch):
    paused = []
    pause = WyomingSession._pause

    async def counted(session):
        paused.append(session)
        await pause(session)

    monkeypatch.setattr(WyomingSession, "_pause", counted)
    monkeypatch.setattr(wyoming, "READ_S", 60.0)
    first = own_events()[0]
    start, end = round(16_000 * first["start"]) - 4_800, round(16_000 * first["t"]) + 1_600
    content = words_in_noise()[:end].tobytes()
    with running() as server, connected(server) as client:
        send(client, AudioStart(16_000, 2, 1).event(), *chunks(content[: 2 * start]))
        assert eventually(lambda: paused)
        send(client, *chunks(content[2 * start :]))
        server.stop()
        assert f'"{first["word"]}"'.encode() in received(client)


def test_sound_that_arrives_by_wyoming_is_dropped(monkeypatch, caplog):
    """It would come after the end of its stream; two models, as streams end one by one."""
    slow_to_end(monkeypatch)
    chunk = AudioChunk(48_000, 2, 1, bytes(9_600)).event()
    with running([str(MODEL), f"second={MODEL}"]) as server, connected(server) as c:
        send(c, AudioStart(48_000, 2, 1).event(), chunk)
        assert eventually(lambda: server.service.streams(server.service.default))
        server.stop()
        with suppress(OSError):
            while server.service.sessions:
                send(c, chunk)
                time.sleep(0.01)
        assert b"the server is stopping" in received(c)
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("leaves_first", [True, False])
def test_a_wyoming_client_that_leaves_is_not_waited_for(leaves_first, monkeypatch, caplog):
    if not leaves_first:
        slow_to_end(monkeypatch)
    with running(limits=Limits(stop_s=50.0)) as server, connected(server) as client:
        send(client, AudioStart(16_000, 2, 1).event(), *chunks(bytes(960)))
        assert eventually(lambda: server.service.streams(server.service.default))
        if not leaves_first:
            server.stop()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        began_s = time.monotonic()
    assert time.monotonic() - began_s < 25
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
