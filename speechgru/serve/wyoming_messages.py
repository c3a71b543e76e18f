"""Splits the bytes of a Wyoming connection into messages.

The package `wyoming` reads a message part by part, which wakes the program up to three times for
each; here all messages that have arrived are taken at once.
"""

import json
from collections.abc import Mapping
from typing import Any

from wyoming.event import Event

from speechgru.errors import UsageError

#: Most bytes in a message's first line, and in the data that may follow it.
HEADER_BYTES = 2**16


class Messages:
    """Takes bytes in any chunking and returns the messages that they complete.

    A message is a line of JSON, then `data_length` bytes of JSON and `payload_length` bytes.

    Args:
        message_bytes: most bytes that may follow a line.
    """

    def __init__(self, message_bytes: int) -> None:
        self._message_bytes = message_bytes
        self._buffer = bytearray()
        #: The first line of a message whose rest has not arrived yet.
        self._header: Mapping[str, Any] | None = None

    @property
    def is_partial(self) -> bool:
        """Whether the rest of a message, after its first line, is missing."""
        return self._header is not None

    def push(self, content: bytes) -> list[Event]:
        """Add the next bytes; returns the messages that are now complete.

        Raises:
            UsageError: they are no Wyoming messages, or one is too large. No more can be read.
        """
        self._buffer += content
        buffer, place = self._buffer, 0
        events: list[Event] = []
        while True:
            if self._header is None:
                end = buffer.find(b"\n", place)
                if (len(buffer) if end < 0 else end) - place > HEADER_BYTES:
                    raise UsageError(f"a line of over {HEADER_BYTES} bytes is no Wyoming message")
                if end < 0:
                    break
                self._header = _parsed(buffer[place:end])
                place = end + 1
            data_bytes = self._size(self._header, "data_length", HEADER_BYTES)
            payload_bytes = self._size(self._header, "payload_length", self._message_bytes)
            payload_place = place + data_bytes
            if len(buffer) < payload_place + payload_bytes:
                break
            data = self._header.get("data") or {}
            if data_bytes:
                data = {**data, **_parsed(buffer[place:payload_place])}
            place = payload_place + payload_bytes
            payload = bytes(buffer[payload_place:place]) if payload_bytes else None
            events.append(Event(self._header["type"], data, payload))
            self._header = None
        del buffer[:place]
        return events

    @staticmethod
    def _size(header: Mapping[str, Any], name: str, most: int) -> int:
        size = header.get(name) or 0
        if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= most:
            raise UsageError(f"{name} {size!r:.40}: up to {most} bytes are allowed")
        return size


def _parsed(text: bytearray) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise UsageError("not a Wyoming message: a JSON object is needed")
    return value
