"""How `listen` shows events as lines or as JSON, and what `--explain` adds."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol, Self

from speechgru.cli.terminal import err, out, padded, print_json
from speechgru.common.wording import counted

if TYPE_CHECKING:
    from speechgru.decoding.detector import Detector
    from speechgru.decoding.verdicts import Verdict
    from speechgru.recognition.session import BlockResult, Summary, TimedEvent


class View(Protocol):
    """Shows events and messages while it is entered."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def begin(self, source: str, words: Sequence[str]) -> None:
        """Show the source and the words that are recognized."""
        ...

    def show(self, block: "BlockResult") -> None:
        """Show a block of sound and its events."""
        ...

    def tell(self, sentence: str) -> None:
        """Show a message; may be called from any thread."""
        ...

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """Show the summary; called after the view has been left."""
        ...


class LineView:
    """One line per event."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def begin(self, source: str, words: Sequence[str]) -> None:
        """On stderr, as everything except events."""
        err.line(f"listening to {source} for {', '.join(words)}; Ctrl-C stops")

    def show(self, block: "BlockResult") -> None:
        """Print the block's events."""
        for event in block.events:
            out.line(event_line(event))

    def tell(self, sentence: str) -> None:
        """On stderr."""
        err.line(sentence)

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """On stderr."""
        err.line(sentence_of(summary, interrupted))


class JsonLineView(LineView):
    """One JSON object per event, flushed at once."""

    def show(self, block: "BlockResult") -> None:
        """Print the block's events."""
        for event in block.events:
            print_json(event.as_dict())


class JsonView(LineView):
    """One JSON object on stdout, at the end."""

    def __init__(self) -> None:
        self._events: list[dict[str, object]] = []

    def show(self, block: "BlockResult") -> None:
        """Keep the block's events."""
        self._events += [event.as_dict() for event in block.events]

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
    found = [f"{summary.seconds:.1f} s of sound", counted(summary.events, "event")]
    latency = summary.latency_ms()
    if latency is not None:
        found.append(f"latency p50 {latency['p50']:.0f} ms, p95 {latency['p95']:.0f} ms")
    if summary.overruns:
        found.append(f"samples dropped {counted(summary.overruns, 'time')}")
    return ", ".join(found)


class NearMisses:
    """Each word that was nearly recognized, once it is over."""

    def __init__(self, detector: "Detector") -> None:
        self._detector = detector
        self._reported_s = 0.0

    def new(self) -> "list[Verdict]":
        """Those that ended since the last call."""
        verdicts = self._detector.near_misses(self._reported_s)
        if verdicts:
            self._reported_s = verdicts[-1].end_s
        return verdicts


def worth_saving(verdicts: "Sequence[Verdict]") -> "list[Verdict]":
    """Those that are not the rest of an event: "held" and "refractory" follow one."""
    return [verdict for verdict in verdicts if verdict.gate not in ("held", "refractory")]


def explanation(verdict: "Verdict") -> str:
    """A line: when, which word, its score, and what stopped it."""
    score, threshold = f"{verdict.score:.2f}", f"{verdict.threshold:.2f}"
    if score == threshold and verdict.score < verdict.threshold:
        score, threshold = f"{verdict.score:.4f}", f"{verdict.threshold:.4f}"
    reason = {
        "threshold": f"below its threshold of {threshold}",
        "duration": f"not above its threshold of {threshold} for long enough",
        "held": "still high from its last occurrence",
        "refractory": "too soon after another event",
        "silence": "silence within it, as in noise",
        "speech": "spoken directly after other words",
        "event": "recognized",
    }[verdict.gate]
    return f"{verdict.start_s:9.2f} s  near miss: {verdict.word} {score}, {reason}"
