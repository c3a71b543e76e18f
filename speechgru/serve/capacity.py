"""How many live streams a server takes: it runs in a process of its own, and clients load it."""

import asyncio
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import psutil
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode

from speechgru.audio.files import read
from speechgru.audio.pcm import to_packed
from speechgru.corpora import open_corpus
from speechgru.corpora.embedded import embedded_corpus
from speechgru.errors import SpeechGRUError

RATE = 16_000
#: Of the bundled models and the recipes.
STEP_S = 0.02
#: Streams whose every answer is timed; the others take their events alone, as most clients do.
PROBES = 16
#: Connections that are opened at once, and the parts of a chunk's time in which streams send.
_AT_ONCE, _GROUPS = 32, 10
_WARM_UP_S = 2.0


@dataclass(frozen=True)
class Load:
    """A server under so many streams.

    Args:
        chunk_ms: milliseconds of sound in a message.
        answer_ms: quantiles from the sending of a chunk to the arrival of its last step's answer.
        cpu: cores that the server used.
        cpu_per_stream: the same for each second of sound that it answered: its inverse is how many
            streams a core could take at most, even where other programs slow the answers down.
        kb_per_stream: what each stream added to the server's memory.
        closed: streams that the server closed.
    """

    streams: int
    chunk_ms: float
    seconds: float
    answer_ms: dict[str, float]
    cpu: float
    cpu_per_stream: float
    kb_per_stream: float
    closed: int

    def passes(self, limit_ms: float) -> bool:
        """Whether all streams stayed, and 99 % of the answers came in time."""
        return not self.closed and self.answer_ms["p99"] < limit_ms

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def search(measure: Callable[[int], Load], limit_ms: float, most: int = 4096) -> list[Load]:
    """Loads of more and more streams, to within an eighth of the most that pass."""
    loads: list[Load] = []

    def passes(streams: int) -> bool:
        loads.append(measure(streams))
        return loads[-1].passes(limit_ms)

    low, high = 0, 32
    while high <= most and passes(high):
        low, high = high, 2 * high
    while high <= most and high - low > max(4, low // 8):
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return loads


def best(loads: Sequence[Load], limit_ms: float) -> Load | None:
    """The most streams that passed."""
    passing = [load for load in loads if load.passes(limit_ms)]
    return max(passing, key=lambda load: load.streams, default=None)


def measure_load(
    model: Path, streams: int, seconds: float = 8.0, chunk_ms: float = 20.0, cores: int = 1
) -> Load:
    """Serve `model` to that many WebSocket streams of speech, in real time.

    The server has `cores` processor cores, where the system can keep it to them, and a process for
    each; the clients run in this process.

    Raises:
        SpeechGRUError: the server does not start.
    """
    with _server(model, streams, cores) as (url, server):
        return asyncio.run(_load(url, server, streams, seconds, chunk_ms))


class _Server:
    """A server's processes."""

    def __init__(self, pid: int, cores: int) -> None:
        self._first = psutil.Process(pid)
        if hasattr(self._first, "cpu_affinity"):
            own = self._first.cpu_affinity()[:cores]
            for process in (
                self._first,
                *self._first.children(),
            ):  # others that it starts inherit it
                process.cpu_affinity(own)

    @property
    def cpu_s(self) -> float:
        """Seconds of processor time so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._all)

    @property
    def memory_kb(self) -> float:
        """Memory in use."""
        return sum(process.memory_info().rss for process in self._all) / 1e3

    @property
    def _all(self) -> list[psutil.Process]:
        return [self._first, *self._first.children()]


@contextmanager
def _server(model: Path, streams: int, cores: int) -> Iterator[tuple[str, _Server]]:
    command = [sys.executable, "-m", "speechgru", "serve", f"model={model}", "--port", "0"]
    command += ["--max-clients", str(streams + 8), "--processes", str(cores)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        try:
            line = server.stderr.readline()
            if " on http" not in line:
                raise SpeechGRUError(f"the server does not start: {line.strip()}")
            url = line.split(" on ")[1].strip().replace("http", "ws", 1) + "listen"
            yield url, _Server(server.pid, cores)
        finally:
            server.terminate()
            server.stderr.read()


@dataclass(eq=False)
class _Client:
    """A stream: when each of its chunks was sent, and how long the answers took."""

    socket: ClientConnection
    place: int
    sent_s: deque[float] = field(default_factory=deque)
    waits_s: list[float] = field(default_factory=list)
    closed: bool = False

    async def receive(self) -> None:
        with suppress(ConnectionClosed):  # noted below: the bench has failed
            async for text in self.socket:
                if '"posteriors"' in text[:24] and self.sent_s:  # not as a label
                    self.waits_s.append(monotonic() - self.sent_s.popleft())
        self.closed = True

    def send(self, frames: Sequence[bytes], is_probe: bool) -> None:
        if is_probe:
            self.sent_s.append(monotonic())
        self.socket.transport.write(frames[self.place % len(frames)])
        self.place += 1


async def _load(url: str, server: _Server, streams: int, seconds: float, chunk_ms: float) -> Load:
    frames = _frames(chunk_ms)
    steps = max(1, round(chunk_ms / 1000 / STEP_S))
    async with AsyncExitStack() as stack:
        clients: list[_Client] = []
        warm = await stack.enter_async_context(connect(url, compression=None))
        await warm.send(bytes(640))
        await asyncio.sleep(0.5)
        empty_kb = server.memory_kb
        while len(clients) < streams:
            count = min(_AT_ONCE, streams - len(clients))
            opened = await asyncio.gather(
                *(
                    stack.enter_async_context(
                        connect(_address(url, len(clients) + i, steps), compression=None)
                    )
                    for i in range(count)
                )
            )
            clients += [_Client(s, 7 * (len(clients) + i)) for i, s in enumerate(opened)]
        receivers = [asyncio.ensure_future(client.receive()) for client in clients]
        await _send(clients, frames, _WARM_UP_S, chunk_ms / 1000)
        for client in clients:
            client.waits_s.clear()
        before_s, started = server.cpu_s, monotonic()
        await _send(clients, frames, seconds, chunk_ms / 1000)
        cpu_s, grown_kb = server.cpu_s - before_s, server.memory_kb - empty_kb
        cpu = cpu_s / (monotonic() - started)
        # All streams are as late as those that are timed.
        probes = clients[:PROBES]
        heard_s = streams * chunk_ms / 1000 * sum(len(c.waits_s) for c in probes) / len(probes)
        # What was not answered yet has waited for so long already.
        waits_s = [wait for client in clients for wait in client.waits_s]
        waits_s += [monotonic() - sent for client in clients for sent in client.sent_s]
        closed = sum(client.closed for client in clients)
        for receiver in receivers:
            receiver.cancel()
    p50, p95, p99 = (1000 * np.quantile(waits_s, [0.5, 0.95, 0.99])).tolist()
    quantiles = {"p50": p50, "p95": p95, "p99": p99}
    per_stream = cpu_s / max(heard_s, 1e-9)
    return Load(streams, chunk_ms, seconds, quantiles, cpu, per_stream, grown_kb / streams, closed)


def _address(url: str, number: int, steps: int) -> str:
    return f"{url}?posteriors={steps}" if number < PROBES else url


async def _send(
    clients: Sequence[_Client], frames: Sequence[bytes], seconds: float, chunk_s: float
) -> None:
    """Each client's chunks in real time; the clients one after the other, not all at once."""
    groups = [list(clients[first::_GROUPS]) for first in range(_GROUPS)]
    probes = set(clients[:PROBES])
    started, turn = monotonic(), 0
    while turn * chunk_s / _GROUPS < seconds:
        for client in groups[turn % _GROUPS]:
            if not client.closed:
                client.send(frames, client in probes)
        turn += 1
        await asyncio.sleep(max(0.0, started + turn * chunk_s / _GROUPS - monotonic()))


def _frames(chunk_ms: float) -> list[bytes]:
    """Messages of words with pauses between them, as they go over the wire."""
    clips = open_corpus(embedded_corpus()).split("testing")[::3]
    pause = np.random.default_rng(0).normal(0, 1e-3, RATE // 2).astype(np.float32)
    parts = [part for clip in clips for part in (pause, read(clip.path, RATE))]
    content = to_packed(np.concatenate(parts)).tobytes()
    size = 2 * round(chunk_ms * RATE / 1000)
    chunks = [content[first : first + size] for first in range(0, len(content) - size, size)]
    return [Frame(Opcode.BINARY, chunk).serialize(mask=True) for chunk in chunks]
