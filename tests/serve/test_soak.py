"""A server among clients that come, go, stall, send garbage and vanish, for a minute or more.

`SOAK_S=3600 SOAK_CLIENTS=100 pytest -m slow -n0 -s tests/serve/test_soak.py` runs it for an hour
with a hundred clients at once, half of them bad, and prints figures.
"""

import asyncio
import json
import os
import random
import subprocess
import sys
from collections import Counter
from contextlib import suppress
from itertools import count
from time import monotonic

import numpy as np
import psutil
import pytest
from servers import CHUNK, own_events, without_latency, words_in_noise
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.wake import Detection, NotDetected

#: At least; the clients that are on their way then finish.
SECONDS = float(os.environ.get("SOAK_S", "45"))
#: At once; half of them are bad.
CLIENTS = int(os.environ.get("SOAK_CLIENTS", "16"))
WYOMING, BAD = CLIENTS // 8, CLIENTS // 2
GOOD = CLIENTS - WYOMING - BAD
#: The sound comes this many times faster than real time.
SPEED = 2.0
GONE = (OSError, WebSocketException, EOFError, asyncio.IncompleteReadError)


class Soak:
    """The clients, and what became of them."""

    def __init__(self, port):
        self.port, self.end_s = port, monotonic() + SECONDS
        self.counts, self.wrong, self.delays_s = Counter(), [], []
        self.rng = random.Random(0)

    @property
    def lasts(self):
        return monotonic() < self.end_s

    @property
    def url(self):
        return f"ws://127.0.0.1:{self.port}/listen"

    async def paced(self, send):
        """The words, in chunks of 20 to 100 ms."""
        content, place, started = words_in_noise(), 0, monotonic()
        while place < len(content):
            size = CHUNK * self.rng.randint(1, 5)
            await send(content[place : place + size].tobytes())
            place += size
            await asyncio.sleep(max(0.0, started + place / 16_000 / SPEED - monotonic()))
        return started

    async def good(self):
        """Every event of every stream, as `listen` has them."""
        while self.lasts:
            found = []
            async with connect(self.url, compression=None) as socket:

                async def receive(socket=socket, found=found):
                    async for text in socket:
                        found.append((monotonic(), json.loads(text)))

                receiving = asyncio.ensure_future(receive())
                started = await self.paced(socket.send)
                await socket.send('{"type": "end"}')
                await receiving
            events = [(at, message) for at, message in found if "type" not in message]
            self.counts["good"] += 1
            heard = [without_latency(message) for _, message in events]
            if heard != own_events():
                self.wrong.append(heard)
            self.delays_s += [at - started - message["t"] / SPEED for at, message in events]

    async def wyoming(self):
        while self.lasts:
            words = []
            async with AsyncTcpClient("127.0.0.1", self.port) as client:
                await client.write_event(AudioStart(16_000, 2, 1).event())

                async def send(content, client=client):
                    await client.write_event(AudioChunk(16_000, 2, 1, content).event())

                await self.paced(send)
                await client.write_event(AudioStop().event())
                while len(words) < len(own_events()):
                    event = await asyncio.wait_for(client.read_event(), 60)
                    if event is None or NotDetected.is_type(event.type):
                        break
                    words.append(Detection.from_event(event).name)
            self.counts["wyoming"] += 1
            if words != [event["word"] for event in own_events()]:
                self.wrong.append(words)

    async def bad(self, first):
        """One misdeed after the other; the clients begin at different ones."""
        misdeeds = [self.garbage, self.vanish, self.stall, self.flood, self.lie]
        for number in count(first):
            if not self.lasts:
                return
            misdeed = misdeeds[number % len(misdeeds)]
            with suppress(*GONE, TimeoutError):
                await asyncio.wait_for(misdeed(), 15)
            self.counts[misdeed.__name__] += 1

    async def garbage(self):
        """Bytes that are no protocol, or the beginning of one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        beginnings = (
            b"",
            b'{"type": "audio-chunk", ',
            b"GET /listen HTTP/1.1\r\nUpgrade: ",
            b"{}\n",
        )
        writer.write(self.rng.choice(beginnings) + self.rng.randbytes(2_000) + b"\n\r\n\r\n")
        await writer.drain()
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(100), 1)
        writer.transport.abort()

    async def vanish(self):
        """In the middle of a word, without a close."""
        async with connect(self.url, compression=None, close_timeout=0.1) as socket:
            for _ in range(self.rng.randint(1, 60)):
                await socket.send(words_in_noise()[: 4 * CHUNK].tobytes())
            socket.transport.abort()

    async def stall(self):
        """Open a stream, and say no more until the server closes it."""
        async with connect(self.url, compression=None, close_timeout=0.1) as socket:
            await socket.send(bytes(640))
            async for _ in socket:
                pass

    async def flood(self):
        """As fast as the server takes it, and read nothing."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1_024)
        writer.write(
            b"GET /listen?posteriors=1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
            b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        end_s = monotonic() + 3
        while monotonic() < end_s:
            writer.write(b"\x82\xfe\x7d\x00" + bytes(4) + bytes(32_000))
            await asyncio.wait_for(writer.drain(), 3)
        writer.transport.abort()
        reader.feed_eof()

    async def lie(self):
        """Messages that make no sense."""
        async with connect(self.url, compression=None, close_timeout=0.1) as socket:
            texts = (
                "{}",
                "[" * 2_000,
                '{"type": "lost", "samples": 1e9}',
                '{"type": "start", "x": 1}',
            )
            await socket.send(self.rng.choice(texts))
            async for _ in socket:
                pass

    async def watch(self, process, megabytes):
        while self.lasts:
            await asyncio.sleep(SECONDS / 40)
            megabytes.append(process.memory_info().rss / 1e6)

    async def run(self, process):
        megabytes = []
        clients = [self.good() for _ in range(GOOD)] + [self.wyoming() for _ in range(WYOMING)]
        clients += [self.bad(first) for first in range(BAD)]
        await asyncio.gather(*clients, self.watch(process, megabytes))
        return megabytes


@pytest.mark.slow
def test_good_clients_lose_nothing_among_bad_ones():
    command = [sys.executable, "-m", "speechgru", "serve", "--port", "0", "--idle-timeout", "10"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stderr.readline().rsplit(":", 1)[1].strip(" /\n"))
            soak = Soak(port)
            megabytes = asyncio.run(soak.run(psutil.Process(server.pid)))
        finally:
            server.terminate()
            rest = server.stderr.read()
        assert server.wait(60) == 0
    third = len(megabytes) // 3
    grown_mb = np.median(megabytes[-third:]) - np.median(megabytes[third : 2 * third])
    p50, p99 = np.quantile(soak.delays_s, [0.5, 0.99])
    print(f"{dict(soak.counts)}; {len(soak.delays_s)} events, p50 {p50:.3f} s, p99 {p99:.3f} s;")
    print("megabytes:", *(f"{mb:.0f}" for mb in megabytes[::4]))
    print(f"memory {np.median(megabytes[-third:]):.1f} MB, {grown_mb:+.1f} MB in the last third")
    assert soak.wrong == [], f"{soak.wrong}, not {own_events()}"
    assert soak.counts["good"] >= GOOD
    assert soak.counts["wyoming"] >= WYOMING
    assert min(soak.counts[name] for name in ("garbage", "vanish", "stall", "flood", "lie")) > 0
    assert grown_mb < 10
    assert "Traceback" not in rest, rest
