"""The live panel of `listen`: level, top words, last events, latency."""

import os
import sys
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from speechgru.audio.levels import peak_db, rms_db
from speechgru.cli.terminal import err, out, plain
from speechgru.cli.views.events import event_line, figures, sentence_of

if TYPE_CHECKING:
    from speechgru.recognition.recognizer import Recognizer
    from speechgru.recognition.session import BlockResult, Summary

TOP_WORDS = 4
LAST_EVENTS = 5
REFRESH_HZ = 10
#: The meter's left end, and where its colours change: at the levels of close speech.
_FLOOR_DB, _QUIET_DB, _LOUD_DB = -60.0, -40.0, -6.0
#: The meter falls by this much each time it is drawn.
_FALL_DB = 3.0
#: Columns of a label, a bar and a figure at most, and of the gaps, borders and margins around them.
_LABEL, _BAR, _FIGURE, _AROUND = 16, 36, 12, 8
_WIDEST = 80


class PanelView:
    """Draws the panel on stdout several times a second, in its own thread.

    Args:
        recognizer: its last log-posteriors are shown.
        summary: totals of the stream so far.
    """

    def __init__(self, recognizer: "Recognizer", summary: "Summary") -> None:
        self._source = ""
        self._recognizer, self._summary = recognizer, summary
        self._peak = self._rms = self._meter = _FLOOR_DB
        self._events: deque[Text] = deque(maxlen=LAST_EVENTS)
        self._shared = _same_terminal()
        self._live = Live(
            get_renderable=self._render,
            console=out.console,
            refresh_per_second=REFRESH_HZ,
            redirect_stderr=self._shared,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def begin(self, source: str, words: Sequence[str]) -> None:
        """Set the panel's title; the words appear when they are recognized."""
        self._source = source

    def show(self, block: "BlockResult") -> None:
        """Take the block's level and events into the next drawing."""
        if len(block.samples):
            self._peak = max(self._peak, peak_db(block.samples))
            self._rms = max(self._rms, rms_db(block.samples))
        for event in block.events:
            self._events.append(plain(event_line(event)))

    def tell(self, sentence: str) -> None:
        """Above the panel, if stderr is the same terminal."""
        (out if self._shared else err).line(sentence)

    def end(self, summary: "Summary", interrupted: bool) -> None:
        """Below the panel."""
        err.line(sentence_of(summary, interrupted))

    def _render(self) -> RenderableType:
        body = Group(self._level(), Text(), self._words(), Text(), *self._last(), Text())
        group = Group(body, self._figures())
        width = self._width
        title = plain(self._source)
        return Panel(group, title=title, title_align="left", subtitle="Ctrl-C stops", width=width)

    @property
    def _width(self) -> int:
        # Leave room at the right for the terminal's own ^C, which would break the line otherwise.
        return min(_WIDEST, out.console.width - 4)

    def _level(self) -> Table:
        peak, self._peak = self._peak, _FLOOR_DB
        rms, self._rms = self._rms, _FLOOR_DB
        self._meter = max(rms, self._meter - _FALL_DB)
        style = "red" if peak > _LOUD_DB else "yellow" if peak < _QUIET_DB else "green"
        row = _bars(self._width)
        row.add_row("level", _bar(1 - self._meter / _FLOOR_DB, style), f"peak {peak:4.0f} dB")
        return row

    def _words(self) -> Table:
        rows = _bars(self._width)
        answer = self._recognizer.log_posteriors
        scores = np.zeros(len(self._recognizer.labels)) if answer is None else np.exp(answer)
        best = np.argsort(-scores, kind="stable")[:TOP_WORDS]
        for label, score in ((self._recognizer.labels[i], float(scores[i])) for i in best):
            rows.add_row(plain(label), _bar(score, "cyan"), f"{score:.2f}")
        for _ in range(TOP_WORDS - len(best)):
            rows.add_row("", "", "")
        return rows

    def _last(self) -> list[Text]:
        return [Text()] * (LAST_EVENTS - len(self._events)) + list(self._events)

    def _figures(self) -> Text:
        return Text(figures(self._summary), style="dim", no_wrap=True, overflow="ellipsis")


def _bars(width: int) -> Table:
    """A table of labels, bars and figures in a panel of this width: in a narrow one, short bars."""
    label = min(_LABEL, max(6, width // 4))
    bar = min(_BAR, max(1, width - label - _FIGURE - _AROUND))
    table = Table.grid(padding=(0, 2))
    table.add_column(width=label, no_wrap=True)
    table.add_column(width=bar)
    table.add_column(justify="right", width=_FIGURE, no_wrap=True)
    return table


def _bar(share: float, style: str) -> ProgressBar:
    done = min(1.0, max(0.0, share))
    return ProgressBar(total=1.0, completed=done, complete_style=style, finished_style=style)


def _same_terminal() -> bool:
    """Whether stderr is the terminal that the panel is drawn on."""
    try:
        return os.path.samestat(os.fstat(sys.stdout.fileno()), os.fstat(sys.stderr.fileno()))
    except (AttributeError, OSError, ValueError):
        return False
