"""How `listen` shows events where there is no terminal: as lines or as JSON."""

from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from speechgru.cli.terminal import err, out, padded, print_json

if TYPE_CHECKING:
    from speechgru.recognition.session import BlockResult, Summary, TimedEvent


class View(Protocol):
    """Shows events and messages, while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def begin(self, source: str, words: Sequence[str]) -> None:
        """Say what is listened to, and for which words."""
        ...

    def show(self, heard: "BlockResult") -> None:
        """Show a block of sound and its events."""
        ...

    def tell(self, sentence: str) -> None:
        """Show a message; from any thread."""
        ...

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """Sum up; after the view was left."""
        ...


class LineView:
    """One line per event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

    def begin(self, source: str, words: Sequence[str]) -> None:
        """On stderr, as all but the events."""
        err.line(f"listening to {source} for {', '.join(words)}; Ctrl-C stops")

    def show(self, heard: "BlockResult") -> None:
        """Print the block's events."""
        for event in heard.events:
            out.line(event_line(event))

    def tell(self, sentence: str) -> None:
        """On stderr."""
        err.line(sentence)

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """On stderr."""
        err.line(sentence_of(summary, interrupted))


class JsonLineView(LineView):
    """One JSON object per event, flushed at once."""

    def show(self, heard: "BlockResult") -> None:
        """Print the block's events."""
        for event in heard.events:
            print_json(event.as_dict())


class JsonView(LineView):
    """One JSON object on stdout, at the end."""

    def __init__(self) -> None:
        self._events: list[dict[str, object]] = []

    def show(self, heard: "BlockResult") -> None:
        """Keep the block's events."""
        self._events += [event.as_dict() for event in heard.events]

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """Print the object."""
        print_json(summary.as_dict() | {"interrupted": interrupted, "events": self._events})


def event_line(timed: "TimedEvent") -> str:
    """Time, word, score and latency."""
    event = timed.event
    word = padded(event.word, 16)
    return f"{event.t:9.2f} s  {word}{event.score:5.2f}  {timed.latency_ms:6.0f} ms"


def sentence_of(summary: "Summary", interrupted: bool) -> str:
    """A stream's summary in a sentence."""
    words = ", ".join(f"{word} {count}" for word, count in summary.words.items())
    return f"{'interrupted: ' if interrupted else ''}{figures(summary)}" + (
        f"; {words}" if words else ""
    )


def figures(summary: "Summary") -> str:
    """Seconds, events, latency and dropped samples so far."""
    plural = "" if summary.events == 1 else "s"
    found = [f"{summary.seconds:.1f} s of sound", f"{summary.events} event{plural}"]
    latency = summary.latency_ms()
    if latency is not None:
        found.append(f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms")
    if summary.overruns:
        found.append(f"samples dropped {summary.overruns} times")
    return ", ".join(found)
