"""A server in a thread of the test's own process, and what clients of it need."""

import asyncio
import threading
import time
from contextlib import contextmanager
from functools import cache

import numpy as np

from speechgru.audio.files import read
from speechgru.audio.pcm import to_packed
from speechgru.backends.loader import load
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.serve.access import Access, Address
from speechgru.serve.models import open_models
from speechgru.serve.server import Server, ServerOptions
from speechgru.serve.service import Service
from speechgru.serve.stream import Stream

CHUNK = 320


@cache
def words_in_noise() -> np.ndarray:
    """Words of the embedded corpus with pauses, (S,) of 16 bits."""
    testing = open_corpus(embedded_corpus()).split("testing")
    clips = [c for word in ("go", "stop") for c in testing if c.word == word][::6]
    rng = np.random.default_rng(0)
    pause = rng.normal(0, 1e-4, 8_000).astype(np.float32)
    parts = [part for clip in clips for part in (pause, read(clip.path, 16_000))]
    samples = to_packed(np.concatenate([*parts, pause]))
    return samples[: len(samples) // CHUNK * CHUNK]


@cache
def own_events():
    """What `listen` recognizes there: JSON objects without their latency."""
    recognizer = load()
    events = recognizer.push(words_in_noise()) + recognizer.flush()
    assert len(events) >= 3
    return [without_latency(event.as_dict()) for event in events]


def without_latency(event):
    return {name: value for name, value in event.items() if name != "latency_ms"}


def eventually(condition, limit_s=30.0):
    """Whether a condition holds soon: a server notices a moment later what its clients did."""
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.01)
    return True


def slow_to_end(monkeypatch):
    """Streams end a moment later, so that a client can send something meanwhile."""
    finish = Stream.finish

    def later(stream):
        asyncio.get_running_loop().call_later(0.3, finish, stream)

    monkeypatch.setattr(Stream, "finish", later)


class Running:
    """A server that runs: its address, its service to look into, and how to stop it."""

    def __init__(self, service, stop, address, wyoming):
        self.service, self.address, self.wyoming = service, address, wyoming
        self.stop = stop

    @property
    def url(self):
        return f"http://{self.address}"

    @property
    def socket(self):
        return f"ws://{self.address}/listen"

    def without_clients(self):
        """Wait until the clients of the test before are gone: they count towards the limit."""
        assert eventually(lambda: not self.service.sessions)


@contextmanager
def running(models=(), options=None, limits=None, **of_service):
    """Serve on a free port of loopback; at the end all is closed."""
    options = options or ServerOptions(Address("127.0.0.1", 0), Access())
    extra = {} if limits is None else {"limits": limits}
    service = Service(open_models(list(models)), **extra, **of_service)
    ready = threading.Event()
    found = []

    def started(address, wyoming):
        found.extend([address, wyoming])
        ready.set()

    server = Server(service, options, started)
    loop = asyncio.new_event_loop()

    def run():
        loop.run_until_complete(server.serve())
        loop.close()

    def stop():
        if not server.stopped_by:
            loop.call_soon_threadsafe(server.handle_exit, 15, None)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(60)
    try:
        yield Running(service, stop, *found)
    finally:
        stop()
        thread.join(60)
        assert not thread.is_alive()
