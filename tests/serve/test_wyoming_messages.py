"""Wyoming's messages from bytes in any chunking, as the package's own writer makes them."""

import asyncio
import json

import numpy as np
import pytest
from wyoming.audio import AudioChunk, AudioStart
from wyoming.event import Event, async_write_event
from wyoming.ping import Ping

from speechgru.errors import UsageError
from speechgru.serve.wyoming_messages import HEADER_BYTES, Messages


class Written(bytearray):
    """What `async_write_event` needs of a writer."""

    write = bytearray.extend

    def writelines(self, parts):
        self.extend(b"".join(parts))

    async def drain(self):
        pass


EVENTS = [
    AudioStart(16_000, 2, 1).event(),
    *(AudioChunk(16_000, 2, 1, bytes(range(size)), size).event() for size in (0, 1, 200)),
    Event("played"),
    Ping(text="a\nline\u2028ä").event(),
]


def written():
    async def write(writer):
        for event in EVENTS:
            await async_write_event(event, writer)

    writer = Written()
    asyncio.run(write(writer))
    return bytes(writer)


def fields(event):
    return event.type, event.data, event.payload or b""


@pytest.mark.parametrize("most", [1, 7, 300, 10_000])
def test_messages_in_any_chunking(most):
    content, rng, place = written(), np.random.default_rng(0), 0
    messages, found = Messages(1_000), []
    while place < len(content):
        size = int(rng.integers(1, most + 1))
        found += messages.push(content[place : place + size])
        place += size
    assert [fields(event) for event in found] == [fields(event) for event in EVENTS]
    assert not messages.is_partial


def test_data_in_the_line_and_after_it_are_one():
    after = json.dumps({"b": 2}).encode()
    header = {"type": "x", "data": {"a": 1, "b": 1}, "data_length": len(after)}
    (event,) = Messages(100).push(json.dumps(header).encode() + b"\n" + after)
    assert event.data == {"a": 1, "b": 2}


def test_a_message_without_its_rest_is_partial():
    messages = Messages(100)
    assert messages.push(b'{"type": "x", "payload_length": 2}\na') == []
    assert messages.is_partial
    (event,) = messages.push(b"b")
    assert event.payload == b"ab"


@pytest.mark.parametrize(
    ("content", "reported"),
    [
        (b"[1]\n", "JSON object"),
        (b"\xff\n", "JSON object"),
        (b"[" * 50_000 + b"\n", "JSON object"),
        (b'{"type": "x", "data_length": 2}\n[]', "JSON object"),
        (b'{"type": "x", "payload_length": 101}\n', "101"),
        (b'{"type": "x", "payload_length": -1}\n', "-1"),
        (b'{"type": "x", "payload_length": true}\n', "True"),
        (b'{"type": "x", "data_length": 1000000}\n', "1000000"),
        (b"{" * (HEADER_BYTES + 1), "line"),
    ],
)
def test_what_is_no_message_is_refused(content, reported):
    with pytest.raises(UsageError, match=reported):
        Messages(100).push(content)
