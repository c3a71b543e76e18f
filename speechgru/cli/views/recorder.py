"""What `record` shows: the word to say, the level, and the result of each take."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

from rich.text import Text

from speechgru.audio.endpoints import MARGIN_S
from speechgru.cli.terminal import Terminal, plain, printable
from speechgru.recognition.guided_recording import ADVICE, DOUBT

if TYPE_CHECKING:
    from rich.live import Live

    from speechgru.recognition.guided_recording import GuidedRecording, Outcome

#: Follows the advice of that fault.
_MORE = {"nothing": " `speechgru devices --test` shows levels"}
#: Of a take that is cut out of a recording, where it differs.
_FILE_ADVICE: Mapping[str, str] = {
    "clipped": "too loud: it distorts",
    "faint": "too faint",
    "cut off": "the recording begins within it, or there is no pause before it",
    "too long": "too long for one word; pause half a second between takes, or see --longest",
}
_METER_DB, _METER_CELLS = (-60.0, 0.0), 16


class RecorderView:
    """A live line on a terminal; otherwise a line for each prompt and each result.

    Nobody is asked for words that are cut out of a recording: there are only results then.
    """

    def __init__(self, terminal: Terminal, session: "GuidedRecording") -> None:
        self._terminal, self._session = terminal, session
        self._live: Live | None = None
        self._asked = ""

    def update(self) -> None:
        """Show the prompt and the level."""
        if self._session.cuts_file:
            return
        if self._live is not None:
            self._live.update(self._line())
            return
        prompt = self._session.prompt
        asked = f"say {prompt.word} ({prompt.take} of {prompt.takes})" if prompt else ""
        if asked and asked != self._asked:
            self._terminal.line(asked)
        self._asked = asked

    def report(self, outcome: "Outcome") -> None:
        """Print the result of a take."""
        word, take = outcome.prompt.word, outcome.take
        if outcome.fault is None and take is not None:
            seconds = take.end_s - take.start_s - 2 * MARGIN_S
            text = f"kept {outcome.path}: {seconds:.1f} s, peak {take.peak_db:.0f} dB"
            if outcome.is_doubtful:
                undo = "; u deletes it" if self._live is not None else ""
                self._print(plain(f"{text}; {DOUBT}{undo}", "yellow"))
            else:
                self._print(plain(text, "green"))
        elif self._session.cuts_file and take is not None:
            fault = outcome.fault or "nothing"
            advice = _FILE_ADVICE.get(fault, ADVICE[fault])
            self._print(plain(f"{word} at {take.start_s:.1f} s: {advice}", "yellow"))
        else:
            fault = outcome.fault or "nothing"
            self._print(plain(f"{word}: {ADVICE[fault]}{_MORE.get(fault, '')}", "yellow"))
            self._asked = ""

    def _print(self, text: Text) -> None:
        self._terminal.text(text)

    def _line(self) -> Text:
        prompt, endpoints = self._session.prompt, self._session.endpoints
        low, high = _METER_DB
        share = (endpoints.level_db - low) / (high - low)
        cells = round(_METER_CELLS * min(1.0, max(0.0, share)))
        meter = "#" * cells + "." * (_METER_CELLS - cells)
        if prompt is None:
            return Text("done")
        state = "listening" if endpoints.is_speaking else "say"
        return Text.assemble(
            f"{state} ",
            (printable(prompt.word), "bold"),
            f"  {prompt.take} of {prompt.takes}  ",
            (meter, "cyan" if endpoints.is_speaking else "dim"),
            f" {endpoints.level_db:4.0f} dB   u undo  s skip  q stop",
        )

    def __enter__(self) -> Self:
        if self._terminal.is_terminal and not self._session.cuts_file:
            from rich.live import Live

            self._live = Live(console=self._terminal.console, refresh_per_second=15, transient=True)
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()
